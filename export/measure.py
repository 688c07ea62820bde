"""A pair's sizes, read from its configs before any weight is."""

from typing import Any

from export.checkpoints.configs import native_size
from export.checkpoints.folders import Checkpoint, Checkpoints, empty_unet
from export.graphs.attention import find_map_layers
from export.graphs.geometry import Geometry
from export.spatial import KINDS
from runtime.errors import RealCompoError
from runtime.words import MODELS, Model


def measure(checkpoints: Checkpoints, height: int | None = None, width: int | None = None) -> Geometry:
    """The pair's sizes at `height` x `width` pixels, by default its native ones.

    Raises:
        RealCompoError: a size that the UNets cannot halve as often as they do, or maps that do not fit together.
    """
    base = checkpoints.text_to_image
    unet, vae, text = base.config("unet"), base.config("vae"), base.family.text_sizes(base.configs)
    factor = 2 ** (len(vae["block_out_channels"]) - 1)
    image_size = _image_size(native_size(unet), factor, height, width)
    _check_divisible(image_size, factor * 2 ** (_levels(checkpoints) - 1))
    latent_size = (image_size[0] // factor, image_size[1] // factor)
    resolution, map_layers = _find_maps(checkpoints, latent_size)
    geometry = Geometry(
        family=base.family.name,
        kind=checkpoints.kind,
        latent_shape=(4, *latent_size),
        image_size=image_size,
        map_resolution=resolution,
        map_layers=map_layers,
        max_tokens=text.max_tokens,
        text_width=text.width,
        pooled_width=text.pooled_width,
        phrase_width=text.phrase_width,
        vocabulary=text.vocabulary,
        scheduler=base.schedule(),
        added=base.family.added(text),
        wide_vae=base.family.wide_vae(vae),
    )
    return KINDS[checkpoints.kind].measure(checkpoints, geometry)


def _image_size(native: tuple[int, int] | None, factor: int, height: int | None, width: int | None) -> tuple[int, int]:
    if native is None and (height is None or width is None):
        raise RealCompoError("the UNet's config has no sample_size to go by; give both --height and --width in pixels")
    trained = native or (0, 0)
    return trained[0] * factor if height is None else height, trained[1] * factor if width is None else width


def _levels(checkpoints: Checkpoints) -> int:
    return max(len(checkpoints.of(model).config("unet")["down_block_types"]) for model in MODELS)


def _find_maps(checkpoints: Checkpoints, latent_size: tuple[int, int]) -> tuple[tuple[int, int], dict[Model, Any]]:
    """The maps' resolution and each model's layers."""
    found = {model: _map_layers(checkpoints.of(model), latent_size) for model in MODELS}
    resolution, spatial_resolution = (found[model][0] for model in MODELS)
    if resolution != spatial_resolution:
        raise RealCompoError(
            f"the two models have their attention maps at different resolutions, {resolution} and {spatial_resolution}"
        )
    return resolution, {model: layers for model, (_, layers) in found.items()}


def _map_layers(checkpoint: Checkpoint, latent_size: tuple[int, int]) -> tuple[tuple[int, int], tuple[str, ...]]:
    return find_map_layers(empty_unet(checkpoint), latent_size, checkpoint.family.map_rule)


def _check_divisible(image_size: tuple[int, int], step: int) -> None:
    for name, size in zip(("height", "width"), image_size, strict=True):
        if size <= 0 or size % step:
            raise RealCompoError(f"--{name} {size} does not fit this pair; it must be a positive multiple of {step}")
