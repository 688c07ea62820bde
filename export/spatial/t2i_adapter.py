"""T2I-Adapters (Mou et al., arXiv 2302.08453) over the text-to-image model's own UNet.

What they see in control images depends on neither latents nor timestep: it is computed once an image, and the gradient
passes through the UNet alone.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from export.checkpoints.folders import Checkpoint, Checkpoints, empty_attached, empty_unet
from export.checkpoints.places import ADAPTER
from export.checkpoints.supported import check_adapter
from export.graphs.engine import (
    Engine,
    Loader,
    Source,
    Specs,
    denoiser,
    denoiser_inputs,
    differentiated,
    image_rows,
    tensor,
)
from export.graphs.geometry import Geometry
from export.graphs.models import AdaptedUNet, T2IAdapters
from export.spatial.attached import Attached
from export.words import Component
from runtime.errors import RealCompoError


def _images(geometry: Geometry) -> Specs:
    return (tensor("control_images", 3 * geometry.attached, *geometry.image_size),)


def _features(geometry: Geometry) -> Specs:
    """What each adapter sees."""
    return tuple(tensor(name, geometry.attached, *shape) for name, shape in geometry.residuals.items())


def _unet_inputs(geometry: Geometry) -> Specs:
    added = (tensor(name, *shape) for name, shape in geometry.residuals.items())
    return *denoiser_inputs(geometry), *added


def _unet(load: Loader) -> AdaptedUNet:
    return AdaptedUNet(load.unet("spatial"), load.map_layers("spatial"), load.noise_of())


class T2IAdapterKind(Attached):
    name = "t2i_adapter"
    component: Component = "adapter"
    place = ADAPTER
    engines = (
        denoiser("spatial", "spatial", _unet_inputs, _unet, alone=True),
        differentiated("spatial_gradient", "spatial", _unet_inputs, _unet),
        Engine(
            role="adapter",
            sources=(Source("spatial", "adapter"),),
            inputs=_images,
            outputs=_features,
            graph=lambda load: T2IAdapters(load.attached()),
            rows=image_rows,
        ),
    )

    def check(self, checkpoints: Checkpoints) -> None:
        for adapter in checkpoints.attached:
            check_adapter(adapter)

    def measure(self, checkpoints: Checkpoints, geometry: Geometry) -> Geometry:
        geometry = replace(geometry, attached=len(checkpoints.attached))
        for adapter in checkpoints.attached:
            shapes = _shapes(adapter, geometry)
            _check_fit(adapter, shapes, checkpoints.text_to_image, geometry)
        return replace(geometry, residuals={f"feature_{i:02}": shape for i, shape in enumerate(shapes)})


def _shapes(adapter: Checkpoint, geometry: Geometry) -> list[tuple[int, ...]]:
    """Of what an adapter sees: asked of it without weights.

    Raises:
        RealCompoError: it cannot fold an image of this size.
    """
    height, width = geometry.image_size
    factor = adapter.config("adapter")["downscale_factor"]
    if height % factor or width % factor:
        raise RealCompoError(f"{adapter.place('adapter')} takes images whose sides are multiples of {factor} pixels")
    with torch.device("meta"):
        seen = empty_attached(adapter, "adapter")(
            torch.empty(1, adapter.config("adapter")["in_channels"], height, width)
        )
    return [tuple(feature.shape[1:]) for feature in seen]


def _check_fit(adapter: Checkpoint, shapes: Sequence[tuple[int, ...]], base: Checkpoint, geometry: Geometry) -> None:
    """Raise RealCompoError unless the UNet, without weights, has a place for each of them."""
    with torch.device("meta"):
        features = [torch.empty(1, *shape) for shape in shapes]
        inputs = {one.name: torch.empty(1, *map(int, one.shape[1:])) for one in denoiser_inputs(geometry)}
        latents, timestep, text = (inputs.pop(name) for name in ("latents", "timestep", "encoder_hidden_states"))
        try:
            empty_unet(base)(
                latents, timestep, text, added_cond_kwargs=inputs, down_intrablock_additional_residuals=features
            )
            taken = len(shapes) - len(features)  # diffusers takes them from the list
        except RuntimeError:
            taken = 0
    if taken < max(len(shapes), len(base.config("unet")["down_block_types"])):
        shown = ", ".join("x".join(map(str, shape)) for shape in shapes)
        raise RealCompoError(
            f"{adapter.place('adapter')} does not fit {base.place('unet')}: it gives features of {shown}. Give an "
            "adapter that was trained for this family of models"
        )
