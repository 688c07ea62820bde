"""The graphs of a bundle: modules with named inputs and outputs around the checkpoints' models."""

import copy
import operator
from collections.abc import Callable, Iterable, Sequence
from functools import partial, reduce
from typing import Any

import torch
from diffusers import AutoencoderKL, T2IAdapter, UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock, GatedSelfAttentionDense
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from export.graphs.attention import average_maps, record_maps

ADDED = ("text_embeds", "time_ids")


class TextEncoder(nn.Module):
    """input_ids (B, L) int64 -> encoder_hidden_states (B, L, D), pooled_output (B, D)."""

    def __init__(self, model: CLIPTextModel):
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        output = self.model(input_ids)
        return _at_least_fp32(output.last_hidden_state), _at_least_fp32(output.pooler_output)


class TextEncoderXL(nn.Module):
    """input_ids, input_ids_2 (B, L) int64 -> encoder_hidden_states (B, L, D1 + D2), pooled_output (B, P),
    phrase_embedding (B, D1 + P): of both encoders what the last layer sees, the second one's projection, and beside the
    first one's pooled output, as GLIGEN for SDXL takes a phrase."""

    def __init__(self, first: CLIPTextModel, second: CLIPTextModelWithProjection):
        super().__init__()
        self.first = first
        self.second = second

    def forward(self, input_ids: torch.Tensor, input_ids_2: torch.Tensor) -> tuple[torch.Tensor, ...]:
        first = self.first(input_ids, output_hidden_states=True)
        second = self.second(input_ids_2, output_hidden_states=True)
        hidden_states = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        phrase = torch.cat([first.pooler_output, second.text_embeds], dim=-1)
        return _at_least_fp32(hidden_states), _at_least_fp32(second.text_embeds), _at_least_fp32(phrase)


class Denoiser(nn.Module):
    """A UNet that also gives its attention maps. What it computes in is what its weights are; inputs and outputs have
    the latents' type.

    Graphs of SDXL take, besides what their docstrings say, `ADDED`: text_embeds (B, P), a whole text's projection, and
    time_ids (B, 6), the picture's sizes.
    """

    def __init__(self, unet: UNet2DConditionModel, layers: tuple[str, ...], noise_of: nn.Module):
        super().__init__()
        self.unet = _share_weights(unet)
        self.noise_of = noise_of
        self.layers = layers
        self.recorders = record_maps(self.unet, layers)

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return self.unet.conv_in.weight.dtype

    def predict(
        self, latents: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor, **conditions: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """noise_pred, attention_maps. `conditions` are further arguments of the UNet."""
        predicted = self.unet(latents.to(self.dtype), timestep, text.to(self.dtype), return_dict=False, **conditions)[0]
        maps = average_maps(self.recorders)
        return self.noise_of(predicted.to(latents.dtype), latents, timestep), maps.to(latents.dtype)


class TextToImage(Denoiser):
    """latents (B, 4, h, w), timestep (B,), encoder_hidden_states (B, L, D) -> noise_pred (B, 4, h, w),
    attention_maps (B, P, L): softmax over tokens, averaged over heads and `layers`, pixels row by row."""

    def forward(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        **added: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self.predict(latents, timestep, encoder_hidden_states, added_cond_kwargs=added)


class Spatial(Denoiser):
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
        **added: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        gligen = {"object_tokens": object_tokens.to(self.dtype), "grounding_scale": grounding_scale.to(self.dtype)}
        conditions = {"cross_attention_kwargs": {"gligen": gligen}, "added_cond_kwargs": added}
        return self.predict(latents, timestep, encoder_hidden_states, **conditions)


class ControlNet(nn.Module):
    """latents (B, 4, h, w), timestep (B,), encoder_hidden_states (B, L, D), control_images (B, 3n, H, W) in
    0..1, control_scales (B, n) -> what n ControlNets (Zhang et al., arXiv 2302.05543) add to a UNet, scaled and added
    up: down_residual_00 ... (B, C, ., .) and mid_residual (B, C, ., .).

    One that reads several kinds has a number in `union_types`, which says what its image is.
    """

    def __init__(self, controlnets: Sequence[Any], union_types: Sequence[int | None] = ()):
        super().__init__()
        types = union_types or [None] * len(controlnets)
        whole = (
            one if kind is None else UnionControlNet(one, kind) for one, kind in zip(controlnets, types, strict=True)
        )
        self.controlnets = nn.ModuleList(whole)

    def forward(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        control_images: torch.Tensor,
        control_scales: torch.Tensor,
        **added: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        dtype: torch.dtype = self.controlnets[0].conv_in.weight.dtype  # type: ignore[union-attr, assignment]
        images, scales = control_images.to(dtype).split(3, dim=1), control_scales.to(dtype)[:, :, None, None, None]
        each = [
            controlnet(
                latents.to(dtype),
                timestep,
                encoder_hidden_states.to(dtype),
                controlnet_cond=image,
                conditioning_scale=scales[:, i],
                added_cond_kwargs=added,
                return_dict=False,
            )
            for i, (controlnet, image) in enumerate(zip(self.controlnets, images, strict=True))
        ]
        together = zip(*([*down, mid] for down, mid in each), strict=True)
        return tuple(reduce(operator.add, residuals).to(latents.dtype) for residuals in together)


class T2IAdapters(nn.Module):
    """control_images (B, 3n, H, W) in 0..1 -> what n T2I-Adapters (Mou et al., arXiv 2302.08453) see in them, whatever
    the timestep: feature_00 ... (B, n, C, ., .), largest first. One of a single channel sees the first of three."""

    def __init__(self, adapters: Sequence[T2IAdapter]):
        super().__init__()
        self.adapters = nn.ModuleList(adapters)

    def forward(self, control_images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        images = control_images.split(3, dim=1)
        each = [_seen(adapter, image) for adapter, image in zip(self.adapters, images, strict=True)]
        return tuple(torch.stack(features, dim=1) for features in zip(*each, strict=True))


class AdaptedUNet(Denoiser):
    """`TextToImage` and what T2I-Adapters saw, scaled and added up: one tensor (B, C, ., .) for each block of the way
    down, and maybe one for the middle; zeros add nothing.

    Added where diffusers' UNet adds `down_intrablock_additional_residuals`, which it does in place: exporters and
    autograd's tracer do without that.
    """

    def __init__(self, unet: UNet2DConditionModel, layers: tuple[str, ...], noise_of: nn.Module):
        super().__init__(unet, layers, noise_of)
        self.features: list[torch.Tensor] = []
        for i, block in enumerate(self.unet.down_blocks):
            if getattr(block, "has_cross_attention", False):
                block.register_forward_pre_hook(partial(self._within, i), with_kwargs=True)
            else:
                block.register_forward_hook(partial(self._after, i))
        self.unet.mid_block.register_forward_hook(partial(self._after_middle, len(self.unet.down_blocks)))

    def forward(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        **others: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        added = {name: others.pop(name) for name in ADDED if name in others}
        self.features[:] = [feature.to(self.dtype) for feature in others.values()]
        return self.predict(latents, timestep, encoder_hidden_states, added_cond_kwargs=added)

    def _within(self, i: int, _: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """A block with attention adds it itself, before it halves."""
        return args, kwargs | {"additional_residuals": self.features[i]}

    def _after(self, i: int, _: nn.Module, __: Any, output: Any) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """What goes on from another block is also the last thing that the way up is handed."""
        sample, handed = output
        sample = sample + self.features[i]
        return sample, (*handed[:-1], sample)

    def _after_middle(self, i: int, _: nn.Module, __: Any, sample: torch.Tensor) -> torch.Tensor:
        return sample + self.features[i] if i < len(self.features) else sample


class ControlledUNet(Denoiser):
    """`TextToImage` and what ControlNets add to it, in their order; zeros add nothing."""

    def forward(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        **others: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        added = {name: others.pop(name) for name in ADDED if name in others}
        residuals = _residuals(others.values(), self.dtype)
        return self.predict(latents, timestep, encoder_hidden_states, added_cond_kwargs=added, **residuals)


class ControlNetAndUNet(Denoiser):
    """`ControlNet` and `ControlledUNet` in one: what ControlNets add depends on the latents, so gradients pass through
    it."""

    def __init__(
        self, unet: UNet2DConditionModel, layers: tuple[str, ...], noise_of: nn.Module, controlnet: ControlNet
    ):
        super().__init__(unet, layers, noise_of)
        self.controlnet = controlnet

    def forward(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        control_images: torch.Tensor,
        control_scales: torch.Tensor,
        **added: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        seen = self.controlnet(latents, timestep, encoder_hidden_states, control_images, control_scales, **added)
        residuals = _residuals(seen, self.dtype)
        return self.predict(latents, timestep, encoder_hidden_states, added_cond_kwargs=added, **residuals)


class UnionControlNet(nn.Module):
    """A ControlNet that reads several kinds (diffusers' ControlNetUnionModel) and is told which one, as a plain one is
    called: it takes no more than one image, of that kind. What is to be filled is black to it, not -1."""

    def __init__(self, controlnet: Any, kind: int):
        super().__init__()
        self.controlnet = _rows_apart(controlnet)
        self.kind = kind
        self.kinds: torch.Tensor
        self.register_buffer("kinds", torch.eye(controlnet.config.num_control_type)[kind])

    @property
    def conv_in(self) -> nn.Module:
        return self.controlnet.conv_in

    def forward(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        controlnet_cond: torch.Tensor,
        conditioning_scale: torch.Tensor,
        added_cond_kwargs: dict[str, torch.Tensor],
        return_dict: bool,
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        with _WideMeans():
            added: tuple[list[torch.Tensor], torch.Tensor] = self.controlnet(
                latents,
                timestep,
                encoder_hidden_states,
                controlnet_cond=[controlnet_cond.clamp(min=0)],
                control_type=self._told(timestep),
                control_type_idx=[self.kind],
                conditioning_scale=[conditioning_scale],
                added_cond_kwargs=added_cond_kwargs,
                return_dict=return_dict,
            )
        return added

    def _told(self, timestep: torch.Tensor) -> torch.Tensor:
        """(B, kinds), without an operator that knows the batch."""
        return self.kinds.to(timestep.dtype) + 0 * timestep[:, None]


class _WideMeans(TorchFunctionMode):
    """A union's means over all pixels are computed in fp32 at least: half precision cannot add up so many."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not torch.mean:
            return func(*args, **(kwargs or {}))
        inputs, *others = args
        return func(_at_least_fp32(inputs), *others, **(kwargs or {})).to(inputs.dtype)


class _OwnRow(nn.Module):
    """diffusers' union lets the rows of a batch look at each other instead of at a row's images, which gives every
    picture the others' traits. The two rows of one picture look alike, so that looking at one's own is the same."""

    def __init__(self, attention: nn.MultiheadAttention):
        super().__init__()
        *_, weight = attention.in_proj_weight.detach().chunk(3)  # of queries, keys and values
        *_, bias = attention.in_proj_bias.detach().chunk(3)
        self.value = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
        self.value.weight, self.value.bias = (nn.Parameter(one, requires_grad=False) for one in (weight, bias))
        self.out_proj = attention.out_proj

    def forward(self, x: torch.Tensor, *_: torch.Tensor, **__: Any) -> tuple[torch.Tensor]:
        """The value of the only row that is looked at."""
        return (self.out_proj(self.value(x)),)


class NoiseOfEpsilon(nn.Module):
    """For UNets that predict the noise itself."""

    def forward(self, predicted: torch.Tensor, latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return predicted


class NoiseOfVelocity(nn.Module):
    """For UNets that predict v = sqrt(alpha) * noise - sqrt(1 - alpha) * x0 (Salimans and Ho, arXiv 2202.00512)."""

    def __init__(self, alphas_cumprod: torch.Tensor):
        super().__init__()
        self.sigmas: torch.Tensor
        self.register_buffer("sigmas", (1 / alphas_cumprod - 1).sqrt())

    def forward(self, predicted: torch.Tensor, latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Between two training timesteps sigma is interpolated, as diffusers' Euler scheduler does."""
        before = timestep.floor().long()
        after, share = (before + 1).clamp(max=len(self.sigmas) - 1), timestep - before
        sigma = torch.lerp(self.sigmas[before], self.sigmas[after], share.to(self.sigmas.dtype))  # (B,)
        signal = (1 + sigma.square()).rsqrt()
        noise = sigma * signal
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


def _residuals(given: Iterable[torch.Tensor], dtype: torch.dtype) -> dict[str, Any]:
    """What ControlNets give, as diffusers' UNet takes it."""
    *down, mid = (residual.to(dtype) for residual in given)
    return {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}


def _seen(adapter: T2IAdapter, image: torch.Tensor) -> list[torch.Tensor]:
    weight = next(adapter.parameters())
    features = adapter(image[:, : adapter.config.in_channels].to(weight.dtype))
    return [feature.to(image.dtype) for feature in features]


def _rows_apart(controlnet: Any) -> Any:
    """A copy of a union whose rows do not look at each other; the weights are the same tensors."""
    copied = copy.deepcopy(controlnet, {id(weight): weight for weight in controlnet.parameters()})
    for layer in copied.transformer_layes:
        layer.attn = _OwnRow(layer.attn)
    return copied


def _at_least_fp32(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _share_weights(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """A copy whose structure may be changed; the weights are the same tensors."""
    return copy.deepcopy(unet, {id(weight): weight for weight in [*unet.parameters(), *unet.buffers()]})
