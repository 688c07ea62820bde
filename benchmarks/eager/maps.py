"""Cross-attention maps of diffusers' UNets: which layers the paper looks at, and what those see."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor

MAP_AREA, MAP_AREA_XL = 16 * 16, 32 * 32  # pixels of the attention maps that the paper uses; of SDXL in up blocks alone


class Recorder:
    """An attention processor that keeps its softmax, averaged over heads: (N,P,L), with its gradient."""

    def __init__(self, maps: dict[str, Tensor], layer: str) -> None:
        self._maps = maps
        self._layer = layer

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: object
    ) -> Tensor:
        """(N,P,C) pixels and (N,L,D) tokens -> (N,P,C)."""
        query, key, value = (
            attn.head_to_batch_dim(projected)
            for projected in (
                attn.to_q(hidden_states),
                attn.to_k(encoder_hidden_states),
                attn.to_v(encoder_hidden_states),
            )
        )
        probabilities = attn.get_attention_scores(query, key)  # (N * heads,P,L)
        precise = probabilities.to(torch.promote_types(probabilities.dtype, torch.float32))
        self._maps[self._layer] = precise.unflatten(0, (-1, attn.heads)).mean(1)
        projection, dropout = attn.to_out
        return dropout(projection(attn.batch_to_head_dim(probabilities @ value)))


@contextmanager
def recording(unet: UNet2DConditionModel, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Fill a dictionary with the layers' attention maps (N,P,L) while the UNet runs; leave it as it was."""
    maps: dict[str, Tensor] = {}
    modules = {layer: unet.get_submodule(layer) for layer in layers}
    processors = {layer: module.processor for layer, module in modules.items()}
    try:
        for layer, module in modules.items():
            module.set_processor(Recorder(maps, layer))
        yield maps
    finally:
        for layer, module in modules.items():
            module.set_processor(processors[layer])


@torch.no_grad()
def find_map_layers(
    unet: UNet2DConditionModel, latent_size: tuple[int, int]
) -> tuple[tuple[int, int], tuple[str, ...]]:
    """The cross-attention layers of down and up blocks at the resolution nearest to 16x16 that both have, by trying;
    of SDXL those of up blocks, nearest to 32x32."""
    config = unet.config
    xl = config.addition_embed_type == "text_time"
    ways, wanted = (("up",), MAP_AREA_XL) if xl else (("down", "up"), MAP_AREA)
    latents = torch.zeros(1, config.in_channels, *latent_size, dtype=unet.dtype, device=unet.device)
    layers = [name for name, _ in unet.named_modules() if name.endswith("attn2") and name.startswith(ways)]
    pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim if xl else 0
    added = {"text_embeds": latents.new_zeros(1, pooled), "time_ids": latents.new_zeros(1, 6)}
    with recording(unet, layers) as maps:
        text = latents.new_zeros(1, 1, config.cross_attention_dim)
        unet(latents, 0, encoder_hidden_states=text, added_cond_kwargs=added)
    areas = {layer: maps[layer].shape[1] for layer in layers}
    common = set.intersection(*({areas[layer] for layer in layers if layer.startswith(way)} for way in ways))
    area = min(common, key=lambda pixels: abs(math.log(pixels / wanted)))
    halvings = math.isqrt(math.prod(latent_size) // area)
    return (latent_size[0] // halvings, latent_size[1] // halvings), tuple(
        layer for layer in layers if areas[layer] == area
    )
