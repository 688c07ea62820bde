"""What each engine role takes and gives, and its graph with a checkpoint's weights."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import nn

from export.checkpoints.folders import (
    Checkpoint,
    Checkpoints,
    load_text_encoder,
    load_text_encoder_2,
    load_unet,
    load_vae,
)
from export.graphs.geometry import Geometry
from export.graphs.gradient import AttentionGradient
from export.graphs.models import (
    Grounding,
    NoiseOfEpsilon,
    NoiseOfVelocity,
    TextEncoder,
    TextEncoderXL,
    TextToImage,
    VaeDecoder,
)
from export.graphs.spatial import MAX_REGIONS, Loader, controls, residuals, spatial_kind, tensor
from runtime.bundle.manifest import Role, TensorSpec


@dataclass(frozen=True)
class Signature:
    """What goes into a graph and comes out of it; the first dimension is always `batch`."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def signature(role: Role, geometry: Geometry) -> Signature:
    """The inputs and outputs of a role's graph."""
    tokens, width = geometry.max_tokens, geometry.text_width
    latents = tensor("latents", *geometry.latent_shape)
    text = tensor("encoder_hidden_states", tokens, width)
    added = tuple(tensor(name, *shape) for name, shape in geometry.added.items())
    rows = (latents, tensor("timestep", dtype="int64"), text, *added)
    spatial = spatial_kind(geometry)
    match role:
        case "text_encoder":
            names = ("input_ids", "input_ids_2") if geometry.added else ("input_ids",)
            ids = tuple(tensor(name, tokens, dtype="int64") for name in names)
            return Signature(ids, (text, tensor("pooled_output", geometry.pooled_width)))
        case "text_to_image":
            return Signature(rows, _predictions(geometry))
        case "spatial":
            return Signature((*rows, *spatial.conditions(geometry)), _predictions(geometry))
        case "text_to_image_gradient":
            return Signature((*rows, *_regions(geometry)), _gradients(geometry))
        case "spatial_gradient":
            conditions = spatial.gradient_conditions(geometry)
            return Signature((*rows, *conditions, *_regions(geometry)), _gradients(geometry))
        case "grounding":
            boxes, phrases = tensor("boxes", MAX_REGIONS, 4), tensor("phrase_embeddings", MAX_REGIONS, width)
            return Signature((boxes, phrases, tensor("masks", MAX_REGIONS)), (spatial.conditions(geometry)[0],))
        case "controlnet":
            return Signature((*rows, *controls(geometry)), residuals(geometry))
        case "vae_decoder":
            return Signature((latents,), (tensor("images", 3, *geometry.image_size),))


def example_inputs(signature: Signature, rows: int, vocabulary: int) -> dict[str, torch.Tensor]:
    """Random inputs of the kind that the graph meets, the same ones at every call."""
    generator = torch.Generator().manual_seed(rows)

    def example(tensor: TensorSpec) -> torch.Tensor:
        shape = (rows, *map(int, tensor.shape[1:]))
        match tensor.name:
            case "input_ids" | "input_ids_2":
                return torch.randint(vocabulary, shape, generator=generator)
            case "timestep":
                return torch.randint(1000, shape, generator=generator)
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

    return {tensor.name: example(tensor) for tensor in signature.inputs}


def load_graph(
    role: Role,
    checkpoints: Checkpoints,
    geometry: Geometry,
    loss_scale: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> nn.Module:
    """A role's graph with the checkpoints' weights, in evaluation mode.

    Args:
        dtype: of the weights of UNets and ControlNets, but for their norms; all else is in fp32.
    """
    load = Loader(checkpoints, geometry, dtype)
    spatial, noise_of = spatial_kind(geometry), _noise_of(geometry.scheduler)

    def text_to_image() -> TextToImage:
        return TextToImage(load.unet("text_to_image"), load.map_layers("text_to_image"), noise_of)

    match role:
        case "text_encoder":
            graph: nn.Module = _text_encoder(checkpoints.text_to_image)
        case "text_to_image":
            graph = text_to_image()
        case "spatial":
            graph = spatial.model(load, noise_of)
        case "text_to_image_gradient":
            graph = AttentionGradient(text_to_image(), loss_scale)
        case "spatial_gradient":
            graph = AttentionGradient(spatial.differentiable(load, noise_of), loss_scale)
        case "grounding":
            graph = Grounding(load_unet(checkpoints.spatial).position_net)
        case "controlnet":
            graph = load.controlnets()
        case "vae_decoder":
            graph = VaeDecoder(load_vae(checkpoints.text_to_image))
    return graph.eval()


def _text_encoder(base: Checkpoint) -> nn.Module:
    if base.is_xl:
        return TextEncoderXL(load_text_encoder(base), load_text_encoder_2(base))
    return TextEncoder(load_text_encoder(base))


def _predictions(geometry: Geometry) -> tuple[TensorSpec, ...]:
    maps = tensor("attention_maps", math.prod(geometry.map_resolution), geometry.max_tokens)
    return tensor("noise_pred", *geometry.latent_shape), maps


def _regions(geometry: Geometry) -> tuple[TensorSpec, ...]:
    return (
        tensor("region_masks", MAX_REGIONS, math.prod(geometry.map_resolution)),
        tensor("region_tokens", MAX_REGIONS, geometry.max_tokens),
        tensor("region_weights", MAX_REGIONS),
    )


def _gradients(geometry: Geometry) -> tuple[TensorSpec, ...]:
    return (
        tensor("loss"),
        tensor("grad_latents", *geometry.latent_shape),
        tensor("region_maps", MAX_REGIONS, math.prod(geometry.map_resolution)),
    )


def _noise_of(scheduler: dict[str, Any]) -> nn.Module:
    if scheduler.get("prediction_type", "epsilon") == "epsilon":
        return NoiseOfEpsilon()
    return NoiseOfVelocity(DDIMScheduler.from_config(scheduler).alphas_cumprod)


def _one_hot(indices: torch.Tensor, size: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(indices, size).float()
