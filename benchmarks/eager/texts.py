"""What the models are told of texts: hidden states, and SDXL's also a whole text's projection and the image's size."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from runtime.text.tokens import Prompt, Token


class SecondText(NamedTuple):
    """SDXL's second text encoder, and its tokenizer."""

    encoder: CLIPTextModelWithProjection
    tokenizer: Any


@dataclass(frozen=True)
class Texts:
    """A text encoder of L tokens and width D, with its tokenizer."""

    encoder: CLIPTextModel
    tokenizer: Any
    image_size: tuple[int, int]  # (H,W), which SDXL is told
    second: SecondText | None = None  # of SDXL alone

    @property
    def max_tokens(self) -> int:
        return min(self.tokenizer.model_max_length, self.encoder.config.max_position_embeddings)

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """Hidden states (B,L,D); of SDXL those of both encoders' last layers but one, and what is added."""
        if self.second is None:
            return self.encoder(self._ids(texts)).last_hidden_state, {}
        first = self.encoder(self._ids(texts), output_hidden_states=True)
        second = self.second.encoder(self._second_ids(texts), output_hidden_states=True)
        hidden_states = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        time_ids = hidden_states.new_tensor([*self.image_size, 0, 0, *self.image_size])  # nothing cut off
        return hidden_states, {"text_embeds": second.text_embeds, "time_ids": time_ids.repeat(len(texts), 1)}

    def encode_negatives(self, texts: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """As prompts; to SDXL an empty one is zeros, as it is to diffusers' pipeline when none is given."""
        hidden_states, added = self.encode(texts)
        if added:
            empty = torch.tensor([not text for text in texts], device=hidden_states.device)
            hidden_states = hidden_states.masked_fill(empty[:, None, None], 0)
            added = added | {"text_embeds": added["text_embeds"].masked_fill(empty[:, None], 0)}
        return hidden_states, added

    @property
    def phrase_width(self) -> int:
        width: int = self.encoder.config.hidden_size
        return width + (self.second.encoder.config.projection_dim if self.second else 0)

    def pool(self, phrases: Sequence[str]) -> Tensor:
        """The phrases' pooled embeddings (N,D); of SDXL the second encoder's projections beside the first one's."""
        pooled: Tensor = self.encoder(self._ids(phrases)).pooler_output
        if self.second is None:
            return pooled
        return torch.cat([pooled, self.second.encoder(self._second_ids(phrases)).text_embeds], dim=-1)

    def align(self, text: str) -> Prompt:
        """A text with the place of each of its tokens."""
        encoded = {name: values[0].tolist() for name, values in self._tokenize([text]).items()}
        ids, places, special = (encoded[name] for name in ("input_ids", "offset_mapping", "special_tokens_mask"))
        tokens = [
            Token(i, start, end, ids[i] != self.tokenizer.unk_token_id)
            for i, (start, end) in enumerate(places)
            if not special[i]
        ]
        return Prompt(text, tuple(ids), tuple(tokens), cut="")

    def _ids(self, texts: Sequence[str]) -> Tensor:
        return self._tokenize(texts)["input_ids"].to(self.encoder.device)

    def _second_ids(self, texts: Sequence[str]) -> Tensor:
        assert self.second
        ids: Tensor = self.second.tokenizer(list(texts), **self._padding())["input_ids"]
        return ids.to(self.encoder.device)

    def _tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Token ids and where they stand in their texts."""
        places = {"return_offsets_mapping": True, "return_special_tokens_mask": True}
        return dict(self.tokenizer(list(texts), **self._padding(), **places))

    def _padding(self) -> dict[str, Any]:
        """Texts are padded and cut as diffusers' pipelines do it."""
        return {"padding": "max_length", "max_length": self.max_tokens, "truncation": True, "return_tensors": "pt"}
