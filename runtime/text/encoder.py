"""What the UNets are told of texts: hidden states, and SDXL's also the whole text's projection and the image's size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from runtime.bundle.manifest import Manifest
from runtime.runner import Runner
from runtime.spatial.kind import Tensors
from runtime.stats import Stats
from runtime.text.tokens import Prompt, PromptEncoder, warn_of_losses


@dataclass(frozen=True)
class Encoded:
    """Distinct texts."""

    prompts: Mapping[str, Prompt]
    hidden_states: Mapping[str, Tensor]  # (L,D) each
    pooled: Mapping[str, Tensor]  # (P,) each
    phrases: Mapping[str, Tensor]  # (D,) each: as GLIGEN takes phrases


@dataclass(frozen=True)
class TextEncoder:
    """The text encoder and its tokenizers: SDXL has two, whose tokens are the same but for the padding."""

    manifest: Manifest
    tokenizers: Sequence[PromptEncoder]
    runner: Runner
    device: torch.device

    def encode(self, prompts: Sequence[str], phrases: Sequence[str], stats: Stats) -> Encoded:
        """Each distinct text once, in as few calls as the engine takes; only prompts warn, for a phrase's words are its
        prompt's."""
        texts = _distinct([*prompts, *phrases])
        tokenized = [[tokenizer.encode(text) for text in texts] for tokenizer in self.tokenizers]
        first = dict(zip(texts, tokenized[0], strict=True))
        for text in _distinct(prompts):
            warn_of_losses(first[text])
        names = [tensor.name for tensor in self.runner.spec.inputs]
        ids = [tokenizer.ids(found) for tokenizer, found in zip(self.tokenizers, tokenized, strict=True)]
        inputs = {name: of_one.to(self.device) for name, of_one in zip(names, ids, strict=True)}
        found = self._run(inputs, len(texts), stats)
        pooled = found["pooled_output"]
        told = found["encoder_hidden_states"], pooled, found.get("phrase_embedding", pooled)  # SDXL's phrases differ
        return Encoded(first, *(dict(zip(texts, of, strict=True)) for of in told))

    def _run(self, inputs: Tensors, count: int, stats: Stats) -> Tensors:
        """What the engine gives of T texts."""
        calls = list[Tensors]()
        for first in range(0, count, most := self.runner.most_rows or count):
            outputs = stats.run(self.runner, **{name: ids[first : first + most] for name, ids in inputs.items()})
            calls.append({name: output.clone() for name, output in outputs.items()})
        return {name: torch.cat([call[name] for call in calls]) for name in calls[0]}

    def tokenize(self, texts: Sequence[str]) -> dict[str, Prompt]:
        """Each distinct text as the first tokenizer has it: all that regions' tokens take."""
        return {text: self.tokenizers[0].encode(text) for text in _distinct(texts)}

    def rows(self, encoded: Encoded, negatives: Sequence[str], prompts: Sequence[str]) -> Tensors:
        """What UNets and ControlNets take, a row for each negative prompt and then one for each prompt."""
        rows = {"encoder_hidden_states": self._stack(encoded.hidden_states, negatives, prompts)}
        if self.manifest.tokenizer_2:
            size = self.manifest.image_size
            time_ids = torch.tensor([*size, 0, 0, *size], dtype=torch.float32, device=self.device)  # nothing cut off
            text_embeds = self._stack(encoded.pooled, negatives, prompts)
            rows |= {"text_embeds": text_embeds, "time_ids": time_ids.repeat(len(text_embeds), 1)}
        return rows

    def _stack(self, of: Mapping[str, Tensor], negatives: Sequence[str], prompts: Sequence[str]) -> Tensor:
        zeroed = self.manifest.zero_negative
        unconditional = [torch.zeros_like(of[text]) if zeroed and not text else of[text] for text in negatives]
        return torch.stack([*unconditional, *(of[text] for text in prompts)])


def _distinct(texts: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(texts))
