"""Prompts to token ids, and the tokens that speak of each region."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Encoding, Tokenizer

from runtime.bundle.manifest import Manifest
from runtime.errors import FieldError, RealCompoError
from runtime.layouts.layout import Layout, Region
from runtime.text.plurals import plurals

ARTICLES = {"a", "an", "the"}


class Word(NamedTuple):
    text: str  # case-folded
    start: int  # in characters of the prompt
    end: int


class Token(NamedTuple):
    position: int  # among the ids
    start: int
    end: int
    known: bool


@dataclass(frozen=True)
class Prompt:
    """A text and its tokens, the special and padding ones left out of `tokens` but not of `ids`."""

    text: str
    ids: tuple[int, ...]
    tokens: tuple[Token, ...]
    cut: str  # the end of the text that did not fit

    @property
    def unknown(self) -> list[str]:
        return [self.text[token.start : token.end] for token in self.tokens if not token.known]


class PromptEncoder:
    """The bundle's tokenizer, padding and cutting every text to `max_tokens`."""

    def __init__(self, path: Path, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self._tokenizer = _load_tokenizer(path, max_tokens)
        unknown = getattr(self._tokenizer.model, "unk_token", None)
        self._unknown_id = self._tokenizer.token_to_id(unknown) if unknown else None

    def encode(self, text: str) -> Prompt:
        encoding = self._tokenizer.encode(text)
        return Prompt(text, tuple(encoding.ids), tuple(self._content(encoding)), self._cut_text(text, encoding))

    def ids(self, prompts: Sequence[Prompt]) -> torch.Tensor:
        """Token ids (B,L) int64."""
        return torch.tensor([prompt.ids for prompt in prompts], dtype=torch.int64).reshape(-1, self.max_tokens)

    def _content(self, encoding: Encoding) -> list[Token]:
        return [
            Token(position, start, end, token_id != self._unknown_id)
            for position, (token_id, (start, end), special) in enumerate(
                zip(encoding.ids, encoding.offsets, encoding.special_tokens_mask, strict=True)
            )
            if not special
        ]

    def _cut_text(self, text: str, encoding: Encoding) -> str:
        overflow = [token for part in encoding.overflowing for token in self._content(part)]
        return text[min(token.start for token in overflow) :] if overflow else ""


def open_tokenizers(folder: Path, manifest: Manifest) -> list[PromptEncoder]:
    """Those of a bundle, one for each text encoder.

    Raises:
        RealCompoError: a file that is no tokenizer.
    """
    return [PromptEncoder(folder / file.name, manifest.max_tokens) for file in manifest.tokenizers]


def losses(prompt: Prompt) -> list[str]:
    """What was cut off, and which words the text encoder does not know, in a sentence each."""
    found = []
    if prompt.cut:
        found.append(f"the end of the prompt was cut off, it is over {len(prompt.ids)} tokens long: {prompt.cut!r}")
    if prompt.unknown:
        found.append(f"the text encoder does not know these words: {', '.join(prompt.unknown)}")
    return found


def warn_of_losses(prompt: Prompt) -> None:
    for loss in losses(prompt):
        warnings.warn(loss, stacklevel=3)


def region_tokens(prompt: Prompt, layout: Layout, max_tokens: int, one: bool = False) -> list[tuple[int, ...]]:
    """The token indices of every region: its own, or those that its phrase's words cover in the prompt.

    The words are sought side by side, in any case, without leading articles, singulars also as plurals. The
    k-th region of a phrase takes the k-th place where it occurs; regions beyond the last place share that.

    Args:
        one: of each phrase the last token alone, which ends the noun: as in the examples by which the authors' code
            asks for a token an object.

    Raises:
        RealCompoError: a phrase that the prompt lacks or that was cut off, or token indices out of range.
    """
    seen: dict[tuple[str, ...], int] = {}
    found = []
    for i, region in enumerate(layout.regions):
        words = _phrase_words(region.phrase)
        occurrence = seen.get(words, 0)
        seen[words] = occurrence + 1
        found.append(
            _match(prompt, region, words, occurrence, f"regions.{i}.phrase")[-1 if one else 0 :]
            if region.tokens is None
            else _check_tokens(region, region.tokens, max_tokens, f"regions.{i}.tokens")
        )
    return found


def mentions(prompt: str, phrase: str) -> bool:
    """Whether a region's phrase is found in a prompt, by the rule of `region_tokens`."""
    return bool(_occurrences(_words(prompt), _phrase_words(phrase)))


def _load_tokenizer(path: Path, max_tokens: int) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exceptions
        raise RealCompoError(f"{path} is not a tokenizer: {' '.join(str(error).split())}") from error
    padding = tokenizer.padding
    end = tokenizer.encode("").ids[-1]  # CLIP pads with its end token where a file does not say
    pad_id = padding["pad_id"] if padding else end
    tokenizer.enable_truncation(max_tokens)
    tokenizer.enable_padding(length=max_tokens, pad_id=pad_id, pad_token=tokenizer.id_to_token(pad_id))
    return tokenizer


def _phrase_words(phrase: str) -> tuple[str, ...]:
    words = [word.text for word in _words(phrase)]
    while len(words) > 1 and words[0] in ARTICLES:
        words.pop(0)
    return tuple(words)


def _words(text: str) -> list[Word]:
    return [Word(match.group().casefold(), *match.span()) for match in re.finditer(r"\w+", text)]


def _match(prompt: Prompt, region: Region, phrase: tuple[str, ...], occurrence: int, field: str) -> tuple[int, ...]:
    spans = _occurrences(_words(prompt.text), phrase)
    if not spans:
        raise FieldError(
            field,
            f"the prompt {prompt.text!r} does not contain the region's phrase {region.phrase!r}: use the prompt's "
            "words, or give the region's token indices in 'tokens'",
        )
    start, end = spans[min(occurrence, len(spans) - 1)]
    if end > len(prompt.text) - len(prompt.cut):
        raise FieldError(
            field,
            f"the region's phrase {region.phrase!r} lies in the end of the prompt that was cut off, {prompt.cut!r}: "
            "shorten the prompt",
        )
    tokens = [token for token in prompt.tokens if token.start < end and token.end > start]
    if not any(token.known for token in tokens):
        raise FieldError(
            field, f"the text encoder knows no word of the region's phrase {region.phrase!r}: use other words"
        )
    return tuple(token.position for token in tokens)


def _occurrences(words: list[Word], phrase: tuple[str, ...]) -> list[tuple[int, int]]:
    """Where the phrase's words stand side by side: (start, end) in characters, in order."""
    if not phrase:
        return []
    windows = [words[i : i + len(phrase)] for i in range(len(words) - len(phrase) + 1)]
    return [
        (window[0].start, window[-1].end)
        for window in windows
        if all(_same_word(word.text, wanted) for word, wanted in zip(window, phrase, strict=True))
    ]


def _same_word(word: str, wanted: str) -> bool:
    return word == wanted or word in plurals(wanted)


def _check_tokens(region: Region, tokens: Sequence[int], max_tokens: int, field: str) -> tuple[int, ...]:
    if not tokens or min(tokens) < 0 or max(tokens) >= max_tokens:
        raise FieldError(
            field, f"tokens {list(tokens)} of region {region.phrase!r} are out of range; use 0 to {max_tokens - 1}"
        )
    return tuple(tokens)
