"""The sizes that a pair's graphs share, read from its configs before any weight is."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from export.checkpoints.folders import Checkpoint, Checkpoints, Model, empty_controlnet, empty_unet
from export.checkpoints.supported import TIME_IDS
from export.graphs.attention import find_map_layers
from runtime.errors import RealCompoError


@dataclass(frozen=True)
class Geometry:
    """The sizes that the graphs of a pair share."""

    latent_shape: tuple[int, int, int]  # (channels, height, width)
    image_size: tuple[int, int]  # (height, width) in pixels
    map_resolution: tuple[int, int]
    map_layers: dict[Model, tuple[str, ...]]
    max_tokens: int
    text_width: int  # of hidden states
    pooled_width: int  # of a whole text
    vocabulary: int
    scheduler: dict[str, Any]  # diffusers' config: what the UNets predict, and the noise they were trained with
    controlnets: int = 0  # how many; with none, GLIGEN is the spatial model
    residuals: dict[str, tuple[int, ...]] = field(default_factory=dict)  # (channels, height, width) of what they add
    added: dict[str, tuple[int, ...]] = field(default_factory=dict)  # shapes of what SDXL's UNets take besides
    wide_vae: bool = False  # its decoder overflows in fp16


def measure(checkpoints: Checkpoints, height: int | None = None, width: int | None = None) -> Geometry:
    """The pair's sizes at `height` x `width` pixels, by default its native ones.

    Raises:
        RealCompoError: a size that the UNets cannot halve as often as they do, or maps that do not fit together.
    """
    base = checkpoints.text_to_image
    unet, vae, text = base.config("unet"), base.config("vae"), _measure_text(base)
    factor = 2 ** (len(vae["block_out_channels"]) - 1)
    native = unet["sample_size"] * factor
    image_size = (native if height is None else height, native if width is None else width)
    levels = max(
        len(checkpoints.of(model).config("unet")["down_block_types"]) for model in ("text_to_image", "spatial")
    )
    _check_divisible(image_size, factor * 2 ** (levels - 1))
    latent_shape = (4, image_size[0] // factor, image_size[1] // factor)
    resolution, map_layers = _find_maps(checkpoints, latent_shape[1:])
    added: dict[str, tuple[int, ...]] = (
        {"text_embeds": (text.pooled_width,), "time_ids": (TIME_IDS,)} if base.is_xl else {}
    )
    return Geometry(
        latent_shape=latent_shape,
        image_size=image_size,
        map_resolution=resolution,
        map_layers=map_layers,
        max_tokens=text.max_tokens,
        text_width=text.width,
        pooled_width=text.pooled_width,
        vocabulary=text.vocabulary,
        scheduler=base.read_json("scheduler/scheduler_config.json"),
        controlnets=len(checkpoints.controlnets),
        residuals=_find_residuals(checkpoints, latent_shape, image_size, text.width, added),
        added=added,
        wide_vae=base.is_xl and bool(vae.get("force_upcast")),
    )


class _Text(NamedTuple):
    max_tokens: int
    width: int
    pooled_width: int
    vocabulary: int


def _measure_text(base: Checkpoint) -> _Text:
    """SDXL has the hidden states of two encoders side by side, and the second one's projection of the whole text."""
    first = base.config("text_encoder")
    tokens, width, vocabulary = (first[name] for name in ("max_position_embeddings", "hidden_size", "vocab_size"))
    if not base.is_xl:
        return _Text(tokens, width, width, vocabulary)
    second = base.config("text_encoder_2")
    return _Text(tokens, width + second["hidden_size"], second["projection_dim"], min(vocabulary, second["vocab_size"]))


def _find_maps(checkpoints: Checkpoints, latent_size: tuple[int, int]) -> tuple[tuple[int, int], dict[Model, Any]]:
    """The maps' resolution and each model's layers."""
    resolution, text_to_image_layers = find_map_layers(empty_unet(checkpoints.text_to_image), latent_size)
    spatial_resolution, spatial_layers = find_map_layers(empty_unet(checkpoints.spatial), latent_size)
    if resolution != spatial_resolution:
        raise RealCompoError(
            f"the two models have their attention maps at different resolutions, {resolution} and {spatial_resolution}"
        )
    return resolution, {"text_to_image": text_to_image_layers, "spatial": spatial_layers}


def _find_residuals(
    checkpoints: Checkpoints,
    latent_shape: tuple[int, ...],
    image_size: tuple[int, int],
    text_width: int,
    added: dict[str, tuple[int, ...]],
) -> dict[str, tuple[int, ...]]:
    """What ControlNets add, all of them the same shapes: asked of one without weights."""
    if not checkpoints.controlnets:
        return {}
    with torch.device("meta"):
        latents, text = torch.empty(1, *latent_shape), torch.empty(1, 1, text_width)
        image, timestep = torch.empty(1, 3, *image_size), torch.empty(1, dtype=torch.int64)
        down, mid = empty_controlnet(checkpoints.controlnets[0])(
            latents,
            timestep,
            text,
            controlnet_cond=image,
            added_cond_kwargs={name: torch.empty(1, *shape) for name, shape in added.items()},
            return_dict=False,
        )
    shapes = {f"down_residual_{i:02}": tuple(residual.shape[1:]) for i, residual in enumerate(down)}
    return shapes | {"mid_residual": tuple(mid.shape[1:])}


def _check_divisible(image_size: tuple[int, int], step: int) -> None:
    for name, size in zip(("height", "width"), image_size, strict=True):
        if size <= 0 or size % step:
            raise RealCompoError(f"--{name} {size} does not fit this pair; it must be a positive multiple of {step}")
