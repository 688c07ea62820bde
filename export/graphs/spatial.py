"""The kinds of spatial model, GLIGEN and ControlNets: their graphs, and what those take besides the text-to-image ones'
inputs."""

from dataclasses import dataclass
from typing import Protocol

import torch
from diffusers import UNet2DConditionModel
from torch import nn

from export.checkpoints.folders import Checkpoints, Model, load_controlnet, load_unet
from export.graphs.geometry import Geometry
from export.graphs.models import ControlledUNet, ControlNet, ControlNetAndUNet, Denoiser, Spatial
from runtime.bundle.manifest import TensorSpec

MAX_REGIONS = 30  # GLIGEN's object slots; diffusers' pipeline pads to as many
Specs = tuple[TensorSpec, ...]


@dataclass(frozen=True)
class Loader:
    """Loads what a pair's denoisers are made of."""

    checkpoints: Checkpoints
    geometry: Geometry
    dtype: torch.dtype = torch.float32  # of weights, but for norms

    def unet(self, model: Model) -> UNet2DConditionModel:
        return load_unet(self.checkpoints.of(model), self.dtype)

    def controlnets(self) -> ControlNet:
        return ControlNet([load_controlnet(checkpoint, self.dtype) for checkpoint in self.checkpoints.controlnets])

    def map_layers(self, model: Model) -> tuple[str, ...]:
        return self.geometry.map_layers[model]


class SpatialKind(Protocol):
    def conditions(self, geometry: Geometry) -> Specs:
        """What `spatial` takes besides."""

    def gradient_conditions(self, geometry: Geometry) -> Specs:
        """What `spatial_gradient` takes besides."""

    def model(self, load: Loader, noise_of: nn.Module) -> Denoiser:
        """The graph of `spatial`."""

    def differentiable(self, load: Loader, noise_of: nn.Module) -> Denoiser:
        """What `spatial_gradient` is the gradient of."""


def spatial_kind(geometry: Geometry) -> SpatialKind:
    return ControlNets() if geometry.controlnets else Gligen()


class Gligen:
    def conditions(self, geometry: Geometry) -> Specs:
        return tensor("object_tokens", MAX_REGIONS, geometry.text_width), tensor("grounding_scale")

    def gradient_conditions(self, geometry: Geometry) -> Specs:
        return self.conditions(geometry)

    def model(self, load: Loader, noise_of: nn.Module) -> Denoiser:
        return Spatial(load.unet("spatial"), load.map_layers("spatial"), noise_of)

    def differentiable(self, load: Loader, noise_of: nn.Module) -> Denoiser:
        return self.model(load, noise_of)


class ControlNets:
    def conditions(self, geometry: Geometry) -> Specs:
        return residuals(geometry)

    def gradient_conditions(self, geometry: Geometry) -> Specs:
        return controls(geometry)

    def model(self, load: Loader, noise_of: nn.Module) -> Denoiser:
        return ControlledUNet(load.unet("spatial"), load.map_layers("spatial"), noise_of)

    def differentiable(self, load: Loader, noise_of: nn.Module) -> Denoiser:
        return ControlNetAndUNet(load.unet("spatial"), load.map_layers("spatial"), noise_of, load.controlnets())


def controls(geometry: Geometry) -> Specs:
    """What ControlNets take besides."""
    return (
        tensor("control_images", 3 * geometry.controlnets, *geometry.image_size),
        tensor("control_scales", geometry.controlnets),
    )


def residuals(geometry: Geometry) -> Specs:
    """What ControlNets add to the UNet."""
    return tuple(tensor(name, *shape) for name, shape in geometry.residuals.items())


def tensor(name: str, *shape: int, dtype: str = "float32") -> TensorSpec:
    """A tensor whose first dimension is `batch`."""
    return TensorSpec.model_validate({"name": name, "dtype": dtype, "shape": ("batch", *shape)})
