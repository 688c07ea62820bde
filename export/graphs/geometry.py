"""The sizes that a pair's graphs share."""

from dataclasses import dataclass, field
from typing import Any

from runtime.words import Model


@dataclass(frozen=True)
class Geometry:
    """The sizes that the graphs of a pair share, and the names of the rows that they are made by."""

    family: str  # of `FAMILIES`
    kind: str  # of spatial model, of `KINDS`
    latent_shape: tuple[int, int, int]  # (channels, height, width)
    image_size: tuple[int, int]  # (height, width) in pixels
    map_resolution: tuple[int, int]
    map_layers: dict[Model, tuple[str, ...]]
    max_tokens: int
    text_width: int  # of hidden states
    pooled_width: int  # of a whole text
    phrase_width: int  # of a phrase, as GLIGEN takes it
    vocabulary: int
    scheduler: dict[str, Any]  # diffusers' config: what the UNets predict, and the noise they were trained with
    attached: int = 0  # how many models are attached to the UNet, such as ControlNets
    residuals: dict[str, tuple[int, ...]] = field(default_factory=dict)  # (channels, height, width) of what they add
    union_types: tuple[int | None, ...] = ()  # of each, what a ControlNet that reads several kinds is to read
    added: dict[str, tuple[int, ...]] = field(default_factory=dict)  # shapes of what the family's UNets take besides
    wide_vae: bool = False  # its decoder overflows in fp16
