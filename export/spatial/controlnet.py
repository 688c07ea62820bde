"""ControlNets (Zhang et al., arXiv 2302.05543) over the text-to-image model's own UNet."""

from dataclasses import replace

import torch

from export.checkpoints.folders import Checkpoint, Checkpoints, empty_attached
from export.checkpoints.places import CONTROLNET
from export.checkpoints.supported import check_controlnet
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
from export.graphs.models import ControlledUNet, ControlNet, ControlNetAndUNet
from export.spatial.attached import Attached
from export.words import Component
from runtime.errors import RealCompoError

_CONTROLNETS = Source("spatial", "controlnet")
# What a ControlNet that reads several kinds calls each: xinsir's numbers, of which the last came with ProMax
UNION_TYPES = {
    "openpose": 0,
    "depth": 1,
    **dict.fromkeys(("scribble", "softedge"), 2),
    **dict.fromkeys(("canny", "lineart", "lineart_anime", "mlsd"), 3),
    "normal": 4,
    "segmentation": 5,
    "tile": 6,
    "inpaint": 7,
}


def _residuals(geometry: Geometry) -> Specs:
    """What ControlNets add to the UNet."""
    return tuple(tensor(name, *shape) for name, shape in geometry.residuals.items())


def _unet_inputs(geometry: Geometry) -> Specs:
    return *denoiser_inputs(geometry), *_residuals(geometry)


def _control_inputs(geometry: Geometry) -> Specs:
    images = tensor("control_images", 3 * geometry.attached, *geometry.image_size)
    return *denoiser_inputs(geometry), images, tensor("control_scales", geometry.attached)


def _controlnet(load: Loader) -> ControlNet:
    return ControlNet(load.attached(), load.geometry.union_types)


def _unet(load: Loader) -> ControlledUNet:
    return ControlledUNet(load.unet("spatial"), load.map_layers("spatial"), load.noise_of())


def _whole(load: Loader) -> ControlNetAndUNet:
    unet, layers = load.unet("spatial"), load.map_layers("spatial")
    return ControlNetAndUNet(unet, layers, load.noise_of(), _controlnet(load))


class ControlNets(Attached):
    name = "controlnet"
    component: Component = "controlnet"
    place = CONTROLNET
    engines = (
        denoiser("spatial", "spatial", _unet_inputs, _unet, alone=True),
        differentiated("spatial_gradient", "spatial", _control_inputs, _whole, attached=(_CONTROLNETS,)),
        Engine(
            role="controlnet",
            sources=(_CONTROLNETS,),
            inputs=_control_inputs,
            outputs=_residuals,
            graph=_controlnet,
            rows=image_rows,  # half of the rows of the UNet that both models share, and all where spatial is alone
            model="spatial",
            alone=True,
        ),
    )

    def check(self, checkpoints: Checkpoints) -> None:
        for controlnet in checkpoints.attached:
            check_controlnet(controlnet, checkpoints.text_to_image)

    def measure(self, checkpoints: Checkpoints, geometry: Geometry) -> Geometry:
        types = tuple(map(_union_type, checkpoints.attached, checkpoints.reads))
        return _with_residuals(checkpoints, replace(geometry, attached=len(types), union_types=types))


def _union_type(controlnet: Checkpoint, kind: str) -> int | None:
    """None of a ControlNet that reads one kind alone."""
    count = controlnet.config("controlnet").get("num_control_type")
    if count is None:
        return None
    if UNION_TYPES.get(kind, count) >= count:
        known = ", ".join(name for name, number in UNION_TYPES.items() if number < count)
        raise RealCompoError(f"{controlnet.place('controlnet')} cannot read {kind}: it reads {known}")
    return UNION_TYPES[kind]


def _with_residuals(checkpoints: Checkpoints, geometry: Geometry) -> Geometry:
    """With the shapes of what they add: asked of them without weights."""
    with torch.device("meta"):
        empty = [empty_attached(one) for one in checkpoints.attached]
        inputs = {one.name: torch.empty(1, *map(int, one.shape[1:])) for one in _control_inputs(geometry)}
        *down, mid = ControlNet(empty, geometry.union_types)(**inputs)
    shapes = {f"down_residual_{i:02}": tuple(residual.shape[1:]) for i, residual in enumerate(down)}
    return replace(geometry, residuals=shapes | {"mid_residual": tuple(mid.shape[1:])})
