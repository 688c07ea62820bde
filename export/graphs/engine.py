"""What an engine is: a row of the table in `export.engines`, and the tensors that go in and come out."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from export.graphs.geometry import Geometry
from export.graphs.gradient import AttentionGradient
from export.graphs.models import Denoiser
from export.words import Component
from runtime.bundle.golden import tiled
from runtime.bundle.manifest import TensorSpec
from runtime.words import MAX_REGIONS, Model, Precision, Role

Specs = tuple[TensorSpec, ...]
Rows = tuple[int, int, int]  # min, opt, max


@dataclass(frozen=True)
class Signature:
    """What goes into a graph and comes out of it; the first dimension is always `batch`."""

    inputs: Specs
    outputs: Specs


@dataclass(frozen=True)
class Source:
    """Where weights are: a component of a model, and the beginnings of their names."""

    model: Model
    component: Component
    prefixes: tuple[str, ...] = ("",)


class Loader(Protocol):
    """Loads what a pair's graphs are made of."""

    geometry: Geometry
    loss_scale: float

    def unet(self, model: Model) -> Any:
        """A UNet2DConditionModel."""

    def attached(self) -> list[Any]:
        """The models that are attached to the UNet, such as ControlNetModels, one a control."""

    def text_encoder(self) -> nn.Module:
        """The family's graph of its text encoders."""

    def vae(self) -> Any:
        """An AutoencoderKL."""

    def map_layers(self, model: Model) -> tuple[str, ...]:
        """The names of the layers that its maps average."""

    def noise_of(self) -> nn.Module:
        """What turns a prediction into noise."""


def unet_rows(batch: Rows) -> Rows:
    """Classifier-free guidance gives UNets and object tokens two rows an image."""
    return batch


def image_rows(batch: Rows) -> Rows:
    """One row an image; without guidance there are as many as UNets have."""
    smallest, usual, largest = batch
    return max(1, smallest // 2), max(1, usual // 2), largest


def text_rows(batch: Rows) -> Rows:
    """A row a text: one image with every region in use has more texts than most batches have rows."""
    _, usual, largest = batch
    return 1, usual, max(largest, MAX_REGIONS + 2)


def as_asked(precision: Precision, geometry: Geometry) -> Precision:
    return precision


def always_fp32(precision: Precision, geometry: Geometry) -> Precision:
    return "fp32"


@dataclass(frozen=True)
class Engine:
    """How a role's graph is made, run and verified."""

    role: Role
    sources: tuple[Source, ...]  # of its weights
    inputs: Callable[[Geometry], Specs]
    outputs: Callable[[Geometry], Specs]
    graph: Callable[[Loader], nn.Module]
    rows: Callable[[Rows], Rows]  # of its plan's profile, where UNets have so many
    precision: Callable[[Precision, Geometry], Precision] = as_asked  # of a bundle that is asked for in one
    model: Model | None = None  # whose work it does at every step; None of an engine that runs once an image
    alone: bool = False  # whether it also works with no engine beside it
    most_pixels: float = math.inf  # of an image that it is verified with; a larger one has a twin

    def signature(self, geometry: Geometry) -> Signature:
        return Signature(self.inputs(geometry), self.outputs(geometry))


def denoiser(
    role: Role,
    model: Model,
    inputs: Callable[[Geometry], Specs],
    graph: Callable[[Loader], Denoiser],
    alone: bool = False,
) -> Engine:
    """The engine of a model's UNet."""
    sources = (Source(model, "unet"),)
    return Engine(role, sources, inputs, predictions, graph, unet_rows, model=model, alone=alone)


def differentiated(
    role: Role,
    model: Model,
    inputs: Callable[[Geometry], Specs],
    graph: Callable[[Loader], Denoiser],
    attached: tuple[Source, ...] = (),
) -> Engine:
    """The gradient engine of a graph: its attention loss, and how that changes with the latents.

    Args:
        attached: sources of weights beside the UNet's.
    """
    return Engine(
        role,
        (Source(model, "unet"), *attached),
        lambda geometry: (*inputs(geometry), *regions(geometry)),
        gradients,
        lambda load: AttentionGradient(graph(load), load.loss_scale),
        image_rows,
        model=model,
    )


def tensor(name: str, *shape: int, dtype: str = "float32") -> TensorSpec:
    """A tensor whose first dimension is `batch`."""
    return TensorSpec.model_validate({"name": name, "dtype": dtype, "shape": ("batch", *shape)})


def latents(geometry: Geometry) -> TensorSpec:
    return tensor("latents", *geometry.latent_shape)


def text(geometry: Geometry) -> TensorSpec:
    return tensor("encoder_hidden_states", geometry.max_tokens, geometry.text_width)


def denoiser_inputs(geometry: Geometry) -> Specs:
    """What every UNet and ControlNet takes."""
    added = (tensor(name, *shape) for name, shape in geometry.added.items())
    return latents(geometry), tensor("timestep"), text(geometry), *added


def predictions(geometry: Geometry) -> Specs:
    """What a UNet gives."""
    maps = tensor("attention_maps", math.prod(geometry.map_resolution), geometry.max_tokens)
    return tensor("noise_pred", *geometry.latent_shape), maps


def regions(geometry: Geometry) -> Specs:
    """What the attention loss takes."""
    return (
        tensor("region_masks", MAX_REGIONS, math.prod(geometry.map_resolution)),
        tensor("region_tokens", MAX_REGIONS, geometry.max_tokens),
        tensor("region_weights", MAX_REGIONS),
    )


def gradients(geometry: Geometry) -> Specs:
    """What a gradient engine gives."""
    return (
        tensor("loss"),
        tensor("grad_latents", *geometry.latent_shape),
        tensor("region_maps", MAX_REGIONS, math.prod(geometry.map_resolution)),
    )


def example_inputs(signature: Signature, rows: int, vocabulary: int) -> dict[str, torch.Tensor]:
    """Random inputs of the kind that the graph meets, the same ones at every call; large ones repeat themselves, so
    that bundles can store them."""
    generator = torch.Generator().manual_seed(rows)

    def example(tensor: TensorSpec) -> torch.Tensor:
        shape = (rows, *map(int, tensor.shape[1:]))
        match tensor.name:
            case "input_ids" | "input_ids_2":
                return torch.randint(vocabulary, shape, generator=generator)
            case "timestep":  # some between two training timesteps
                return torch.randint(1998, shape, generator=generator) / 2
            case "time_ids":
                return torch.randint(1024, shape, generator=generator).float()
            case "masks":
                return torch.randint(2, shape, generator=generator).float()
            case "region_tokens":
                return _one_hot(torch.randint(shape[-1], shape[:-1], generator=generator), shape[-1])
            case "region_weights":  # as many regions as a layout has, and padding
                return (torch.arange(shape[-1]) < 3).float().expand(shape).contiguous()
            case "boxes" | "grounding_scale" | "region_masks" | "control_images" | "control_scales":
                return torch.rand(shape, generator=generator)
        return torch.randn(shape, generator=generator)

    return {tensor.name: tiled(example(tensor)) for tensor in signature.inputs}


def _one_hot(indices: torch.Tensor, size: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(indices, size).float()
