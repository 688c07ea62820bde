"""Which cross-attention layers give the attention maps, and the processors that record and open them."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention

from runtime.errors import RealCompoError

Way = Literal["down", "up"]


@dataclass(frozen=True)
class MapRule:
    """Which cross-attention layers the maps average: those at the resolution nearest to `area` that every way has."""

    area: int  # pixels; where tokens attend to whole objects
    ways: tuple[Way, ...]


STABLE_DIFFUSION = MapRule(16 * 16, ("down", "up"))
STABLE_DIFFUSION_XL = MapRule(32 * 32, ("up",))


class ExplicitAttention:
    """An attention processor that computes softmax(QK^T)V in the open.

    It stands only where it must, in map layers and in graphs with a backward: everywhere else the fused attention
    stays, which is faster but shows no maps and whose backward has no ONNX form.
    """

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        **_: object,
    ) -> torch.Tensor:
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
        scores = (query * attn.scale) @ key.transpose(-1, -2)  # of the smaller tensor, on the way back as well
        # Widened first: softmax(dtype=float32) becomes an ONNX Softmax in half precision, whose result is widened.
        probabilities = scores.to(torch.promote_types(scores.dtype, torch.float32)).softmax(dim=-1)
        self.see(probabilities)
        mixed = (probabilities.to(value.dtype) @ value).transpose(1, 2).flatten(2)
        return attn.to_out[1](attn.to_out[0](mixed))

    def see(self, probabilities: torch.Tensor) -> None:
        """Called with the softmax (B, heads, P, L)."""


class MapRecorder(ExplicitAttention):
    """Keeps the softmax."""

    def __init__(self) -> None:
        self._latest: torch.Tensor | None = None

    def see(self, probabilities: torch.Tensor) -> None:
        self._latest = probabilities.mean(dim=1)

    def take(self) -> torch.Tensor:
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
    """Compute every attention in the open that is not recorded already."""
    for module in model.modules():
        if isinstance(module, Attention) and not isinstance(module.processor, ExplicitAttention):
            module.set_processor(ExplicitAttention())


def average_maps(recorders: list[MapRecorder]) -> torch.Tensor:
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
