"""ControlNets (Zhang et al., arXiv 2302.05543) over the text-to-image model's own UNet."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from export.checkpoints.files import check_place
from export.checkpoints.folders import Checkpoint, Checkpoints, empty_attached, open_checkpoint
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
from export.pairs import Control, Pair
from export.spatial.kind import SpatialKind, over_base
from export.words import Component
from runtime.bundle.manifest import SpatialSpec
from runtime.errors import RealCompoError
from runtime.spatial.control_images import CONTROL_KINDS

_CONTROLNETS = Source("spatial", "controlnet")


def _residuals(geometry: Geometry) -> Specs:
    """What ControlNets add to the UNet."""
    return tuple(tensor(name, *shape) for name, shape in geometry.residuals.items())


def _unet_inputs(geometry: Geometry) -> Specs:
    return *denoiser_inputs(geometry), *_residuals(geometry)


def _control_inputs(geometry: Geometry) -> Specs:
    images = tensor("control_images", 3 * geometry.attached, *geometry.image_size)
    return *denoiser_inputs(geometry), images, tensor("control_scales", geometry.attached)


def _unet(load: Loader) -> ControlledUNet:
    return ControlledUNet(load.unet("spatial"), load.map_layers("spatial"), load.noise_of())


def _whole(load: Loader) -> ControlNetAndUNet:
    unet, layers = load.unet("spatial"), load.map_layers("spatial")
    return ControlNetAndUNet(unet, layers, load.noise_of(), ControlNet(load.attached()))


class ControlNets(SpatialKind):
    name = "controlnet"
    component: Component = "controlnet"
    engines = (
        denoiser("spatial", "spatial", _unet_inputs, _unet, alone=True),
        differentiated("spatial_gradient", "spatial", _control_inputs, _whole, attached=(_CONTROLNETS,)),
        Engine(
            role="controlnet",
            sources=(_CONTROLNETS,),
            inputs=_control_inputs,
            outputs=_residuals,
            graph=lambda load: ControlNet(load.attached()),
            rows=image_rows,  # half of the rows of the UNet that both models share, and all where spatial is alone
            model="spatial",
            alone=True,
        ),
    )

    def replace(self, pair: Pair, given: Sequence[str]) -> Pair:
        """KIND=MODEL each, or MODEL alone for one of the kind that the pair has in its place."""
        controls = tuple(_control(pair, i, model) for i, model in enumerate(given)) or pair.controls
        for control in controls:
            check_place(Path(control.model).expanduser(), CONTROLNET)
        return over_base(replace(pair, controls=controls))

    def open(self, pair: Pair, base: Checkpoint, download: bool) -> Checkpoints:
        models = (control.model for control in pair.controls)
        attached = (open_checkpoint("spatial", one, ("controlnet",), download, pair.fp16_files) for one in models)
        return Checkpoints(self.name, base, base, tuple(attached))

    def check(self, checkpoints: Checkpoints) -> None:
        for controlnet in checkpoints.attached:
            check_controlnet(controlnet, checkpoints.text_to_image)

    def shares_unet(self, checkpoints: Checkpoints) -> bool:
        return True

    def measure(self, checkpoints: Checkpoints, geometry: Geometry) -> Geometry:
        return replace(geometry, attached=len(checkpoints.attached), residuals=_measure(checkpoints, geometry))

    def spec(self, pair: Pair) -> SpatialSpec:
        return SpatialSpec(kind=self.name, controls=tuple(control.kind for control in pair.controls))


def _control(pair: Pair, i: int, given: str) -> Control:
    """The ControlNet that is given in the i-th place."""
    named = next((kind for kind in CONTROL_KINDS if given.startswith(f"{kind}=")), None)
    if named:
        return Control(named, given.removeprefix(f"{named}="))
    if i < len(pair.controls):
        return Control(pair.controls[i].kind, given)
    raise RealCompoError(
        f"--spatial {given}: {pair.name} has {len(pair.controls)} ControlNet, so say what this one reads: "
        f"--spatial KIND={given}, KIND being {', '.join(CONTROL_KINDS)}"
    )


def _measure(checkpoints: Checkpoints, geometry: Geometry) -> dict[str, tuple[int, ...]]:
    """What ControlNets add, all of them the same shapes: asked of one without weights."""
    with torch.device("meta"):
        down, mid = empty_attached(checkpoints.attached[0])(
            torch.empty(1, *geometry.latent_shape),
            torch.empty(1, dtype=torch.int64),
            torch.empty(1, 1, geometry.text_width),
            controlnet_cond=torch.empty(1, 3, *geometry.image_size),
            added_cond_kwargs={name: torch.empty(1, *shape) for name, shape in geometry.added.items()},
            return_dict=False,
        )
    shapes = {f"down_residual_{i:02}": tuple(residual.shape[1:]) for i, residual in enumerate(down)}
    return shapes | {"mid_residual": tuple(mid.shape[1:])}
