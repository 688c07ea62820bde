"""What a family of text-to-image models is: a row of `FAMILIES`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import nn

from export.graphs.attention import MapRule
from export.words import Component

Config = Mapping[str, Any]
Configs = Mapping[Component, Config]  # by component


class TextSizes(NamedTuple):
    max_tokens: int
    width: int  # of hidden states
    pooled_width: int  # of a whole text
    phrase_width: int  # of a phrase, as GLIGEN takes it
    vocabulary: int


@dataclass(frozen=True)
class Rule:
    """A config's field that must have one of these values; where it is missing, it has the first."""

    component: Component
    field: str
    allowed: tuple[Any, ...]


@dataclass(frozen=True)
class Family:
    """How models of a family differ from others'."""

    name: str
    title: str  # for people
    embed_type: str | None  # addition_embed_type in the UNet's config
    linear_projection: bool  # use_linear_projection there; by these two a family is told
    text_encoders: tuple[Component, ...]
    tokenizers: tuple[str, ...]  # folders, one for each text encoder
    pads: tuple[str, ...]  # what fills up each one's texts, where a folder does not say
    map_rule: MapRule
    text_sizes: Callable[[Configs], TextSizes]
    text_graph: Callable[..., nn.Module]  # of the text encoders' models
    added: Callable[[TextSizes], dict[str, tuple[int, ...]]]  # shapes of what UNets take besides
    rules: Callable[[Configs], tuple[Rule, ...]]  # besides those of all families
    wide_vae: Callable[[Config], bool]  # whether the VAE's decoder overflows in fp16, by its config
    zero_negative: Callable[[Config], bool]  # whether an empty negative prompt is zeros, by model_index.json
