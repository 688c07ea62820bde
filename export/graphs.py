"""The graphs of a bundle: modules with named inputs and outputs around the checkpoints' models."""

import copy

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock, GatedSelfAttentionDense
from torch import nn
from transformers import CLIPTextModel

from export.attention import average_maps, record_maps

Tensors = dict[str, torch.Tensor]


class TextEncoder(nn.Module):
    """input_ids (B, L) int64 -> encoder_hidden_states (B, L, D), pooled_output (B, D)."""

    def __init__(self, model: CLIPTextModel):
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        output = self.model(input_ids)
        return _at_least_fp32(output.last_hidden_state), _at_least_fp32(output.pooler_output)


class _Denoiser(nn.Module):
    """A UNet that also gives its attention maps. What it computes in is what its weights are; inputs and outputs have
    the latents' type."""

    def __init__(self, unet: UNet2DConditionModel, layers: tuple[str, ...], noise_of: nn.Module):
        super().__init__()
        self.unet = _share_weights(unet)
        self.noise_of = noise_of
        self.layers = layers
        self.recorders = record_maps(self.unet, layers)

    def predict(
        self, latents: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor, gligen: Tensors | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """noise_pred, attention_maps."""
        dtype = self.unet.conv_in.weight.dtype
        kwargs = {"gligen": {name: tensor.to(dtype) for name, tensor in gligen.items()}} if gligen else None
        predicted = self.unet(
            latents.to(dtype), timestep, text.to(dtype), cross_attention_kwargs=kwargs, return_dict=False
        )[0]
        maps = average_maps(self.recorders)
        return self.noise_of(predicted.to(latents.dtype), latents, timestep), maps.to(latents.dtype)


class TextToImage(_Denoiser):
    """latents (B, 4, h, w), timestep (B,) int64, encoder_hidden_states (B, L, D) -> noise_pred (B, 4, h, w),
    attention_maps (B, P, L): softmax over tokens, averaged over heads and `layers`, pixels row by row."""

    def forward(
        self, latents: torch.Tensor, timestep: torch.Tensor, encoder_hidden_states: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self.predict(latents, timestep, encoder_hidden_states, None)


class Spatial(_Denoiser):
    """`TextToImage` of a GLIGEN UNet (Li et al., arXiv 2301.07093) and object_tokens (B, N, D),
    grounding_scale (B,): what each row's gates are multiplied by; 0 turns grounding off."""

    def __init__(self, unet: UNet2DConditionModel, layers: tuple[str, ...], noise_of: nn.Module):
        super().__init__(unet, layers, noise_of)
        self.unet.position_net = _ReadyTokens()
        for block in self.unet.modules():
            if isinstance(block, BasicTransformerBlock):
                block.fuser = _ScaledFuser(block.fuser)

    def forward(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        object_tokens: torch.Tensor,
        grounding_scale: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        gligen = {"object_tokens": object_tokens, "grounding_scale": grounding_scale}
        return self.predict(latents, timestep, encoder_hidden_states, gligen)


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
        normed = fuser.norm1(x)
        both = torch.cat([normed, fuser.norm1(fuser.linear(object_tokens))], dim=1)  # (B, P + N, C)
        # Where diffusers looks from objects too, and drops what they see, only pixels look here.
        x = x + scale * fuser.alpha_attn.tanh() * fuser.attn(normed, encoder_hidden_states=both)
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
        images: torch.Tensor = self.vae.decode(latents.to(self.vae.post_quant_conv.weight.dtype), return_dict=False)[0]
        return images.to(latents.dtype)


def _at_least_fp32(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _share_weights(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """A copy whose structure may be changed; the weights are the same tensors."""
    return copy.deepcopy(unet, {id(weight): weight for weight in [*unet.parameters(), *unet.buffers()]})
