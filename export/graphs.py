"""The graphs of a bundle: modules with named inputs and outputs around the checkpoints' models."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock, GatedSelfAttentionDense
from torch import nn
from transformers import CLIPTextModel

from export.attention import average_maps, find_map_layers, record_maps
from export.checkpoints import Checkpoints, Model, empty_unet, load_text_encoder, load_unet, load_vae
from runtime.bundle import Role, TensorSpec
from runtime.errors import RealCompoError

MAX_REGIONS = 30  # GLIGEN's object slots; diffusers' pipeline pads to as many


class TextEncoder(nn.Module):
    """input_ids (B, L) int64 -> encoder_hidden_states (B, L, D), pooled_output (B, D)."""

    def __init__(self, model: CLIPTextModel):
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        output = self.model(input_ids)
        return output.last_hidden_state, output.pooler_output


class TextToImage(nn.Module):
    """latents (B, 4, h, w), timestep (B,) int64, encoder_hidden_states (B, L, D) -> noise_pred (B, 4, h, w),
    attention_maps (B, P, L): softmax over tokens, averaged over heads and `layers`, pixels row by row."""

    def __init__(self, unet: UNet2DConditionModel, layers: tuple[str, ...], noise_of: nn.Module):
        super().__init__()
        self.unet = _share_weights(unet)
        self.noise_of = noise_of
        self.recorders = record_maps(self.unet, layers)

    def forward(
        self, latents: torch.Tensor, timestep: torch.Tensor, encoder_hidden_states: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        predicted = self.unet(latents, timestep, encoder_hidden_states, return_dict=False)[0]
        return self.noise_of(predicted, latents, timestep), average_maps(self.recorders)


class Spatial(nn.Module):
    """`TextToImage` of a GLIGEN UNet (Li et al., arXiv 2301.07093) and object_tokens (B, N, D),
    grounding_scale (B,): what each row's gates are multiplied by; 0 turns grounding off."""

    def __init__(self, unet: UNet2DConditionModel, layers: tuple[str, ...], noise_of: nn.Module):
        super().__init__()
        self.unet = _share_weights(unet)
        self.noise_of = noise_of
        self.unet.position_net = _ReadyTokens()
        for block in self.unet.modules():
            if isinstance(block, BasicTransformerBlock):
                block.fuser = _ScaledFuser(block.fuser)
        self.recorders = record_maps(self.unet, layers)

    def forward(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        object_tokens: torch.Tensor,
        grounding_scale: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        grounding = {"object_tokens": object_tokens, "grounding_scale": grounding_scale}
        predicted = self.unet(
            latents, timestep, encoder_hidden_states, cross_attention_kwargs={"gligen": grounding}, return_dict=False
        )[0]
        return self.noise_of(predicted, latents, timestep), average_maps(self.recorders)


class NoiseOfEpsilon(nn.Module):
    """For UNets that predict the noise itself."""

    def forward(self, predicted: torch.Tensor, latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return predicted


class NoiseOfVelocity(nn.Module):
    """For UNets that predict v = sqrt(alpha) * noise - sqrt(1 - alpha) * x0 (Salimans and Ho, arXiv 2202.00512)."""

    def __init__(self, alphas_cumprod: torch.Tensor):
        super().__init__()
        self.signal: torch.Tensor
        self.noise: torch.Tensor
        self.register_buffer("signal", alphas_cumprod.sqrt())
        self.register_buffer("noise", (1 - alphas_cumprod).sqrt())

    def forward(self, predicted: torch.Tensor, latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        signal, noise = self.signal[timestep], self.noise[timestep]  # (B,)
        return signal[:, None, None, None] * predicted + noise[:, None, None, None] * latents


class _ReadyTokens(nn.Module):
    """In the place of the position net, whose result is an input here; diffusers hands it on to every fuser."""

    def forward(self, object_tokens: torch.Tensor, grounding_scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return object_tokens, grounding_scale[:, None, None]


class _ScaledFuser(nn.Module):
    """GLIGEN's gated self-attention with a scale per row on both of its gates."""

    def __init__(self, fuser: GatedSelfAttentionDense):
        super().__init__()
        self.fuser = fuser

    def forward(self, x: torch.Tensor, grounding: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        (object_tokens, scale), fuser = grounding, self.fuser
        both = torch.cat([x, fuser.linear(object_tokens)], dim=1)  # (B, P + N, C)
        x = x + scale * fuser.alpha_attn.tanh() * fuser.attn(fuser.norm1(both))[:, : x.shape[1]]
        return x + scale * fuser.alpha_dense.tanh() * fuser.ff(fuser.norm2(x))


class Grounding(nn.Module):
    """boxes (B, N, 4), phrase_embeddings (B, N, D), masks (B, N): 1 where there is an object -> object_tokens
    (B, N, D)."""

    def __init__(self, position_net: nn.Module):
        super().__init__()
        self.position_net = position_net

    def forward(self, boxes: torch.Tensor, phrase_embeddings: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        return self.position_net(boxes=boxes, positive_embeddings=phrase_embeddings, masks=masks)


class VaeDecoder(nn.Module):
    """latents (B, 4, h, w), already divided by the latent scale -> images (B, 3, H, W), about -1..1."""

    def __init__(self, vae: AutoencoderKL):
        super().__init__()
        self.vae = vae

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.vae.decode(latents, return_dict=False)[0]


@dataclass(frozen=True)
class Geometry:
    """The sizes that the graphs of a pair share."""

    latent_shape: tuple[int, int, int]  # (channels, height, width)
    image_size: tuple[int, int]  # (height, width) in pixels
    map_resolution: tuple[int, int]
    map_layers: dict[Model, tuple[str, ...]]
    max_tokens: int
    text_width: int
    vocabulary: int
    scheduler: dict[str, Any]  # diffusers' config: what the UNets predict, and the noise they were trained with


@dataclass(frozen=True)
class Signature:
    """What goes into a graph and comes out of it; the first dimension is always `batch`."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def measure(checkpoints: Checkpoints, height: int | None = None, width: int | None = None) -> Geometry:
    """The pair's sizes at `height` x `width` pixels, by default its native ones.

    Raises:
        RealCompoError: a size that the UNets cannot halve as often as they do, or maps that do not fit together.
    """
    unet, vae, text = (checkpoints.text_to_image.config(c) for c in ("unet", "vae", "text_encoder"))
    factor = 2 ** (len(vae["block_out_channels"]) - 1)
    native = unet["sample_size"] * factor
    image_size = (native if height is None else height, native if width is None else width)
    levels = max(
        len(checkpoints.of(model).config("unet")["down_block_types"]) for model in ("text_to_image", "spatial")
    )
    _check_divisible(image_size, factor * 2 ** (levels - 1))
    latent_size = (image_size[0] // factor, image_size[1] // factor)
    resolution, text_to_image_layers = find_map_layers(empty_unet(checkpoints.text_to_image), latent_size)
    spatial_resolution, spatial_layers = find_map_layers(empty_unet(checkpoints.spatial), latent_size)
    if resolution != spatial_resolution:
        raise RealCompoError(
            f"the two models have their attention maps at different resolutions, {resolution} and {spatial_resolution}"
        )
    return Geometry(
        latent_shape=(4, *latent_size),
        image_size=image_size,
        map_resolution=resolution,
        map_layers={"text_to_image": text_to_image_layers, "spatial": spatial_layers},
        max_tokens=text["max_position_embeddings"],
        text_width=text["hidden_size"],
        vocabulary=text["vocab_size"],
        scheduler=checkpoints.text_to_image.read_json("scheduler/scheduler_config.json"),
    )


def signature(role: Role, geometry: Geometry) -> Signature:
    """The inputs and outputs of a role's graph."""
    tokens, width = geometry.max_tokens, geometry.text_width
    pixels = geometry.map_resolution[0] * geometry.map_resolution[1]
    latents = _tensor("latents", *geometry.latent_shape)
    text = _tensor("encoder_hidden_states", tokens, width)
    objects = _tensor("object_tokens", MAX_REGIONS, width)
    timestep = _tensor("timestep", dtype="int64")
    predictions = (_tensor("noise_pred", *geometry.latent_shape), _tensor("attention_maps", pixels, tokens))
    match role:
        case "text_encoder":
            return Signature((_tensor("input_ids", tokens, dtype="int64"),), (text, _tensor("pooled_output", width)))
        case "text_to_image":
            return Signature((latents, timestep, text), predictions)
        case "spatial":
            return Signature((latents, timestep, text, objects, _tensor("grounding_scale")), predictions)
        case "grounding":
            phrases = _tensor("phrase_embeddings", MAX_REGIONS, width)
            return Signature((_tensor("boxes", MAX_REGIONS, 4), phrases, _tensor("masks", MAX_REGIONS)), (objects,))
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
            case "boxes" | "grounding_scale":
                return torch.rand(shape, generator=generator)
        return torch.randn(shape, generator=generator)

    return {tensor.name: example(tensor) for tensor in signature.inputs}


def load_graph(role: Role, checkpoints: Checkpoints, geometry: Geometry) -> nn.Module:
    """A role's graph with the checkpoints' weights, in fp32 and evaluation mode."""
    match role:
        case "text_encoder":
            graph: nn.Module = TextEncoder(load_text_encoder(checkpoints.text_to_image))
        case "text_to_image":
            unet = load_unet(checkpoints.text_to_image)
            graph = TextToImage(unet, geometry.map_layers["text_to_image"], _noise_of(geometry.scheduler))
        case "spatial":
            unet = load_unet(checkpoints.spatial)
            graph = Spatial(unet, geometry.map_layers["spatial"], _noise_of(geometry.scheduler))
        case "grounding":
            graph = Grounding(load_unet(checkpoints.spatial).position_net)
        case "vae_decoder":
            graph = VaeDecoder(load_vae(checkpoints.text_to_image))
    return graph.eval()


def _noise_of(scheduler: dict[str, Any]) -> nn.Module:
    if scheduler.get("prediction_type", "epsilon") == "epsilon":
        return NoiseOfEpsilon()
    return NoiseOfVelocity(DDIMScheduler.from_config(scheduler).alphas_cumprod)


def _share_weights(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """A copy whose structure may be changed; the weights are the same tensors."""
    return copy.deepcopy(unet, {id(weight): weight for weight in [*unet.parameters(), *unet.buffers()]})


def _tensor(name: str, *shape: int, dtype: str = "float32") -> TensorSpec:
    return TensorSpec.model_validate({"name": name, "dtype": dtype, "shape": ("batch", *shape)})


def _check_divisible(image_size: tuple[int, int], step: int) -> None:
    for name, size in zip(("height", "width"), image_size, strict=True):
        if size <= 0 or size % step:
            raise RealCompoError(f"--{name} {size} does not fit this pair; it must be a positive multiple of {step}")
