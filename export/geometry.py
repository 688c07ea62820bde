"""The sizes that a pair's graphs share, read from its configs before any weight is."""

from dataclasses import dataclass
from typing import Any

from export.attention import find_map_layers
from export.checkpoints import Checkpoints, Model, empty_unet
from runtime.errors import RealCompoError


@dataclass(frozen=True)
class Geometry:
    """The sizes that the graphs of a pair share."""

    latent_shape: tuple[int, int, int]  # (channels, height, width)
    image_size: tuple[int, int]  # (height, width) in pixels
    map_resolution: tuple[int, int]
    map_layers: dict[Model, tuple[str, ...]]
    max_tokens: int
    text_width: int
    vocabulary: int
    scheduler: dict[str, Any]  # diffusers' config: what the UNets predict, and the noise they were trained with


def measure(checkpoints: Checkpoints, height: int | None = None, width: int | None = None) -> Geometry:
    """The pair's sizes at `height` x `width` pixels, by default its native ones.

    Raises:
        RealCompoError: a size that the UNets cannot halve as often as they do, or maps that do not fit together.
    """
    unet, vae, text = (checkpoints.text_to_image.config(c) for c in ("unet", "vae", "text_encoder"))
    factor = 2 ** (len(vae["block_out_channels"]) - 1)
    native = unet["sample_size"] * factor
    image_size = (native if height is None else height, native if width is None else width)
    levels = max(
        len(checkpoints.of(model).config("unet")["down_block_types"]) for model in ("text_to_image", "spatial")
    )
    _check_divisible(image_size, factor * 2 ** (levels - 1))
    latent_size = (image_size[0] // factor, image_size[1] // factor)
    resolution, text_to_image_layers = find_map_layers(empty_unet(checkpoints.text_to_image), latent_size)
    spatial_resolution, spatial_layers = find_map_layers(empty_unet(checkpoints.spatial), latent_size)
    if resolution != spatial_resolution:
        raise RealCompoError(
            f"the two models have their attention maps at different resolutions, {resolution} and {spatial_resolution}"
        )
    return Geometry(
        latent_shape=(4, *latent_size),
        image_size=image_size,
        map_resolution=resolution,
        map_layers={"text_to_image": text_to_image_layers, "spatial": spatial_layers},
        max_tokens=text["max_position_embeddings"],
        text_width=text["hidden_size"],
        vocabulary=text["vocab_size"],
        scheduler=checkpoints.text_to_image.read_json("scheduler/scheduler_config.json"),
    )


def _check_divisible(image_size: tuple[int, int], step: int) -> None:
    for name, size in zip(("height", "width"), image_size, strict=True):
        if size <= 0 or size % step:
            raise RealCompoError(f"--{name} {size} does not fit this pair; it must be a positive multiple of {step}")
