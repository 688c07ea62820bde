"""The kinds of spatial model, GLIGEN and ControlNets: their graphs, and what those take besides the text-to-image ones'
inputs."""

from typing import Protocol

from torch import nn

from export.checkpoints import Checkpoints, load_controlnet, load_unet
from export.geometry import Geometry
from export.graphs import ControlledUNet, ControlNet, ControlNetAndUNet, Denoiser, Spatial
from runtime.bundle import TensorSpec

MAX_REGIONS = 30  # GLIGEN's object slots; diffusers' pipeline pads to as many
Specs = tuple[TensorSpec, ...]


class SpatialKind(Protocol):
    def conditions(self, geometry: Geometry) -> Specs:
        """What `spatial` takes besides."""

    def gradient_conditions(self, geometry: Geometry) -> Specs:
        """What `spatial_gradient` takes besides."""

    def model(self, checkpoints: Checkpoints, geometry: Geometry, noise_of: nn.Module) -> Denoiser:
        """The graph of `spatial`, in fp32."""

    def differentiable(self, checkpoints: Checkpoints, geometry: Geometry, noise_of: nn.Module) -> Denoiser:
        """What `spatial_gradient` is the gradient of."""


def spatial_kind(geometry: Geometry) -> SpatialKind:
    return ControlNets() if geometry.controlnets else Gligen()


class Gligen:
    def conditions(self, geometry: Geometry) -> Specs:
        return tensor("object_tokens", MAX_REGIONS, geometry.text_width), tensor("grounding_scale")

    def gradient_conditions(self, geometry: Geometry) -> Specs:
        return self.conditions(geometry)

    def model(self, checkpoints: Checkpoints, geometry: Geometry, noise_of: nn.Module) -> Denoiser:
        return Spatial(load_unet(checkpoints.spatial), geometry.map_layers["spatial"], noise_of)

    def differentiable(self, checkpoints: Checkpoints, geometry: Geometry, noise_of: nn.Module) -> Denoiser:
        return self.model(checkpoints, geometry, noise_of)


class ControlNets:
    def conditions(self, geometry: Geometry) -> Specs:
        return residuals(geometry)

    def gradient_conditions(self, geometry: Geometry) -> Specs:
        return controls(geometry)

    def model(self, checkpoints: Checkpoints, geometry: Geometry, noise_of: nn.Module) -> Denoiser:
        return ControlledUNet(load_unet(checkpoints.spatial), geometry.map_layers["spatial"], noise_of)

    def differentiable(self, checkpoints: Checkpoints, geometry: Geometry, noise_of: nn.Module) -> Denoiser:
        unet, added = load_unet(checkpoints.spatial), load_controlnets(checkpoints)
        return ControlNetAndUNet(unet, geometry.map_layers["spatial"], noise_of, added)


def controls(geometry: Geometry) -> Specs:
    """What ControlNets take besides."""
    return (
        tensor("control_images", 3 * geometry.controlnets, *geometry.image_size),
        tensor("control_scales", geometry.controlnets),
    )


def residuals(geometry: Geometry) -> Specs:
    """What ControlNets add to the UNet."""
    return tuple(tensor(name, *shape) for name, shape in geometry.residuals.items())


def load_controlnets(checkpoints: Checkpoints) -> ControlNet:
    return ControlNet([load_controlnet(checkpoint) for checkpoint in checkpoints.controlnets])


def tensor(name: str, *shape: int, dtype: str = "float32") -> TensorSpec:
    """A tensor whose first dimension is `batch`."""
    return TensorSpec.model_validate({"name": name, "dtype": dtype, "shape": ("batch", *shape)})
