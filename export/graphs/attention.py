"""Which cross-attention layers give the attention maps, and the processors that record and open them."""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor

from runtime.errors import RealCompoError

Way = Literal["down", "up"]


@dataclass(frozen=True)
class MapRule:
    """Which cross-attention layers the maps average: those at the resolution nearest to `area` that every way has."""

    area: int  # pixels; where tokens attend to whole objects
    ways: tuple[Way, ...]


STABLE_DIFFUSION = MapRule(16 * 16, ("down", "up"))
STABLE_DIFFUSION_XL = MapRule(32 * 32, ("up",))


def attend(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Query (B, heads, P, C), key and value (B, heads, L, C) -> softmax(QK^T), in fp32 at the least, and the values
    that it mixes (B, heads, P, C)."""
    probabilities = _softmax(query @ key.transpose(-1, -2))
    return probabilities, probabilities.to(value.dtype) @ value


def _softmax(scores: Tensor) -> Tensor:
    # Widened first: softmax(dtype=float32) becomes an ONNX Softmax in half precision, whose result is widened.
    return scores.to(torch.promote_types(scores.dtype, torch.float32)).softmax(dim=-1)


class DifferentiatedAttention(torch.autograd.Function):
    """`attend`, with a backward that passes over the softmax twice instead of four times.

    The softmax's backward is P * (dP - D), with D the sum of P * dP over tokens. Of what comes through the mixed values
    O that is the sum of dO * O over channels (Dao et al., arXiv 2205.14135, section B.2), which are fewer. Batch and
    heads are one dimension in every product: engines take a transposed factor only if nothing is between the two.
    """

    @staticmethod
    def forward(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        flat = [tensor.flatten(0, 1) for tensor in (query, key, value)]
        probabilities = _softmax(torch.bmm(flat[0], flat[1].transpose(1, 2)))
        mixed = torch.bmm(probabilities.to(value.dtype), flat[2])
        return probabilities.view(*query.shape[:3], -1), mixed.view(query.shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs, *output)

    @staticmethod
    def backward(ctx: Any, seen: Tensor | None, mixing: Tensor | None) -> tuple[Tensor | None, ...]:
        """The cotangents of the softmax, None where it is no map, and of the mixed values, None in the last layer."""
        saved, of_query, of_key, of_value = ctx.saved_tensors, None, None, None
        query, key, value, probabilities, mixed = (tensor.flatten(0, 1) for tensor in saved)
        terms, dots = [], []
        if seen is not None:
            terms.append(seen.flatten(0, 1))
            dots.append((terms[0] * probabilities).sum(-1, keepdim=True))
        if mixing is not None:
            mixing = mixing.flatten(0, 1)
            terms.append(torch.bmm(mixing, value.transpose(1, 2)).to(probabilities.dtype))
            dots.append((mixing.to(probabilities.dtype) * mixed).sum(-1, keepdim=True))
            if ctx.needs_input_grad[2]:
                of_value = torch.bmm(probabilities.to(value.dtype).transpose(1, 2), mixing).view(saved[2].shape)
        cotangent = reduce(operator.add, terms) - reduce(operator.add, dots)
        of_scores = (probabilities * cotangent).to(query.dtype)
        if ctx.needs_input_grad[0]:
            of_query = torch.bmm(of_scores, key).view(saved[0].shape)
        if ctx.needs_input_grad[1]:
            of_key = torch.bmm(of_scores.transpose(1, 2), query).view(saved[1].shape)
        return of_query, of_key, of_value


class ExplicitAttention:
    """An attention processor that computes softmax(QK^T)V in the open.

    It stands only where it must, in map layers and in graphs with a backward: everywhere else the fused attention
    stays, which is faster but shows no maps and whose backward has no ONNX form.
    """

    attend: Callable[..., tuple[Tensor, Tensor]] = staticmethod(attend)

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        **_: object,
    ) -> Tensor:
        """(B, P, C) pixels and (B, L, D) tokens, by default the pixels themselves -> (B, P, C)."""
        encoder_hidden_states = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            projected.unflatten(-1, (attn.heads, -1)).transpose(1, 2)  # (B, heads, P or L, C / heads)
            for projected in (
                attn.to_q(hidden_states),
                attn.to_k(encoder_hidden_states),
                attn.to_v(encoder_hidden_states),
            )
        )
        # The query is scaled, not the scores: the smaller tensor, on the way back as well.
        probabilities, mixed = self.attend(query * attn.scale, key, value)
        self.see(probabilities)
        return attn.to_out[1](attn.to_out[0](mixed.transpose(1, 2).flatten(2)))

    def see(self, probabilities: Tensor) -> None:
        """Called with the softmax (B, heads, P, L)."""


class MapRecorder(ExplicitAttention):
    """Keeps the softmax."""

    def __init__(self) -> None:
        self._latest: Tensor | None = None

    def see(self, probabilities: Tensor) -> None:
        self._latest = probabilities.mean(dim=1)

    def take(self) -> Tensor:
        """(B, P, L): the softmax of the latest call, averaged over heads. It is handed out once and not kept."""
        latest, self._latest = self._latest, None
        assert latest is not None, "the layer has not been called"
        return latest


def record_maps(unet: UNet2DConditionModel, layers: tuple[str, ...]) -> list[MapRecorder]:
    """Put a recorder into each of the named attention layers."""
    recorders = [MapRecorder() for _ in layers]
    for layer, recorder in zip(layers, recorders, strict=True):
        unet.get_submodule(layer).set_processor(recorder)
    return recorders


def open_attention(model: torch.nn.Module) -> None:
    """Compute every attention in the open that is not recorded already, all of them with a short backward."""
    for module in model.modules():
        if isinstance(module, Attention):
            if not isinstance(module.processor, ExplicitAttention):
                module.set_processor(ExplicitAttention())
            module.processor.attend = DifferentiatedAttention.apply


def average_maps(recorders: list[MapRecorder]) -> Tensor:
    """(B, P, L): what the recorders saw in the latest forward, averaged over layers."""
    return torch.stack([recorder.take() for recorder in recorders]).mean(dim=0)


def find_map_layers(
    unet: UNet2DConditionModel, size: tuple[int, int], rule: MapRule = STABLE_DIFFUSION
) -> tuple[tuple[int, int], tuple[str, ...]]:
    """The (height, width) and the names of the map layers for latents of `size`.

    Raises:
        RealCompoError: there is no such resolution.
    """
    layers = {way: _cross_attention(unet, way) for way in rule.ways}
    common = set.intersection(*(set(levels.values()) for levels in layers.values()))
    if not common:
        raise RealCompoError(f"the UNet has no resolution with cross-attention in {' and '.join(rule.ways)} blocks")
    nearest = min(common, key=lambda level: abs(math.log(math.prod(_size_at(size, level)) / rule.area)))
    return _size_at(size, nearest), tuple(
        name for levels in layers.values() for name, level in levels.items() if level == nearest
    )


def _cross_attention(unet: UNet2DConditionModel, way: Way) -> dict[str, int]:
    """The layers of a way's blocks, and at which level each is."""
    return {
        name: _level(unet, name)
        for name, module in unet.named_modules()
        if isinstance(module, Attention) and name.endswith(".attn2") and name.startswith(f"{way}_blocks")
    }


def _level(unet: UNet2DConditionModel, name: str) -> int:
    """How often latents have been halved where the layer sits."""
    blocks, index = name.split(".")[:2]
    return int(index) if blocks == "down_blocks" else len(unet.up_blocks) - 1 - int(index)


def _size_at(size: tuple[int, int], level: int) -> tuple[int, int]:
    return size[0] >> level, size[1] >> level
