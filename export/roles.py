"""What each engine role takes and gives, and its graph with a checkpoint's weights."""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import nn

from export.checkpoints import Checkpoints, Model, load_text_encoder, load_unet, load_vae
from export.geometry import Geometry
from export.gradient import AttentionGradient
from export.graphs import (
    Grounding,
    NoiseOfEpsilon,
    NoiseOfVelocity,
    Spatial,
    TextEncoder,
    TextToImage,
    VaeDecoder,
)
from runtime.bundle import Role, TensorSpec

MAX_REGIONS = 30  # GLIGEN's object slots; diffusers' pipeline pads to as many


@dataclass(frozen=True)
class Signature:
    """What goes into a graph and comes out of it; the first dimension is always `batch`."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def signature(role: Role, geometry: Geometry) -> Signature:
    """The inputs and outputs of a role's graph."""
    tokens, width = geometry.max_tokens, geometry.text_width
    pixels = geometry.map_resolution[0] * geometry.map_resolution[1]
    latents = _tensor("latents", *geometry.latent_shape)
    text = _tensor("encoder_hidden_states", tokens, width)
    objects = _tensor("object_tokens", MAX_REGIONS, width)
    timestep = _tensor("timestep", dtype="int64")
    predictions = (_tensor("noise_pred", *geometry.latent_shape), _tensor("attention_maps", pixels, tokens))
    masks, weights = _tensor("region_masks", MAX_REGIONS, pixels), _tensor("region_weights", MAX_REGIONS)
    regions = (masks, _tensor("region_tokens", MAX_REGIONS, tokens), weights)
    grounding = (objects, _tensor("grounding_scale"))
    gradients = (
        _tensor("loss"),
        _tensor("grad_latents", *geometry.latent_shape),
        _tensor("region_maps", MAX_REGIONS, pixels),
    )
    match role:
        case "text_encoder":
            return Signature((_tensor("input_ids", tokens, dtype="int64"),), (text, _tensor("pooled_output", width)))
        case "text_to_image":
            return Signature((latents, timestep, text), predictions)
        case "spatial":
            return Signature((latents, timestep, text, *grounding), predictions)
        case "grounding":
            phrases = _tensor("phrase_embeddings", MAX_REGIONS, width)
            return Signature((_tensor("boxes", MAX_REGIONS, 4), phrases, _tensor("masks", MAX_REGIONS)), (objects,))
        case "text_to_image_gradient":
            return Signature((latents, timestep, text, *regions), gradients)
        case "spatial_gradient":
            return Signature((latents, timestep, text, *grounding, *regions), gradients)
        case "vae_decoder":
            return Signature((latents,), (_tensor("images", 3, *geometry.image_size),))


def example_inputs(signature: Signature, rows: int, vocabulary: int) -> dict[str, torch.Tensor]:
    """Random inputs of the kind that the graph meets, the same ones at every call."""
    generator = torch.Generator().manual_seed(rows)

    def example(tensor: TensorSpec) -> torch.Tensor:
        shape = (rows, *map(int, tensor.shape[1:]))
        match tensor.name:
            case "input_ids":
                return torch.randint(vocabulary, shape, generator=generator)
            case "timestep":
                return torch.randint(1000, shape, generator=generator)
            case "masks":
                return torch.randint(2, shape, generator=generator).float()
            case "region_tokens":
                return _one_hot(torch.randint(shape[-1], shape[:-1], generator=generator), shape[-1])
            case "region_weights":  # as many regions as a layout has, and padding
                return (torch.arange(shape[-1]) < 3).float().expand(shape).contiguous()
            case "boxes" | "grounding_scale" | "region_masks":
                return torch.rand(shape, generator=generator)
        return torch.randn(shape, generator=generator)

    return {tensor.name: example(tensor) for tensor in signature.inputs}


def load_graph(role: Role, checkpoints: Checkpoints, geometry: Geometry, loss_scale: float = 1.0) -> nn.Module:
    """A role's graph with the checkpoints' weights, in fp32 and evaluation mode."""

    def model(name: Model) -> TextToImage | Spatial:
        module = TextToImage if name == "text_to_image" else Spatial
        return module(load_unet(checkpoints.of(name)), geometry.map_layers[name], _noise_of(geometry.scheduler))

    match role:
        case "text_encoder":
            graph: nn.Module = TextEncoder(load_text_encoder(checkpoints.text_to_image))
        case "text_to_image" | "spatial":
            graph = model(role)
        case "text_to_image_gradient":
            graph = AttentionGradient(model("text_to_image"), loss_scale)
        case "spatial_gradient":
            graph = AttentionGradient(model("spatial"), loss_scale)
        case "grounding":
            graph = Grounding(load_unet(checkpoints.spatial).position_net)
        case "vae_decoder":
            graph = VaeDecoder(load_vae(checkpoints.text_to_image))
    return graph.eval()


def _noise_of(scheduler: dict[str, Any]) -> nn.Module:
    if scheduler.get("prediction_type", "epsilon") == "epsilon":
        return NoiseOfEpsilon()
    return NoiseOfVelocity(DDIMScheduler.from_config(scheduler).alphas_cumprod)


def _one_hot(indices: torch.Tensor, size: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(indices, size).float()


def _tensor(name: str, *shape: int, dtype: str = "float32") -> TensorSpec:
    return TensorSpec.model_validate({"name": name, "dtype": dtype, "shape": ("batch", *shape)})
