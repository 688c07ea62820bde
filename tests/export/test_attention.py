"""The attention maps against softmax(QK^T) worked out from the layers' own inputs, caught by forward hooks."""

import pytest
import torch
from diffusers import UNet2DConditionModel

from export.graphs.attention import find_map_layers
from export.graphs.models import NoiseOfEpsilon, TextToImage
from runtime.errors import RealCompoError


def make_deep_unet() -> UNet2DConditionModel:
    """Cross-attention at 32x32, 16x16 and in the middle block, of latents of 32x32."""
    torch.manual_seed(1)
    return UNet2DConditionModel(
        sample_size=32,
        block_out_channels=(8, 16, 16),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=4,
    ).eval()


def maps_by_hand(unet: UNet2DConditionModel, layers: tuple[str, ...], inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """One head and one layer at a time, from what goes into each layer of the stock model."""
    caught = {}
    for layer in layers:
        unet.get_submodule(layer).register_forward_hook(
            lambda module, args, kwargs, output, layer=layer: caught.update({layer: (args[0], inputs[2])}),
            with_kwargs=True,
        )
    unet(*inputs)
    maps = []
    for layer, (pixels, tokens) in caught.items():
        attn = unet.get_submodule(layer)
        width = attn.to_q.out_features // attn.heads
        for head in range(attn.heads):
            rows = slice(head * width, (head + 1) * width)
            scores = pixels @ attn.to_q.weight[rows].T @ (tokens @ attn.to_k.weight[rows].T).transpose(1, 2)
            exponents = (scores / width**0.5).exp()
            maps.append((exponents / exponents.sum(-1, keepdim=True)) / attn.heads)
    return sum(maps) / len(layers)


@torch.no_grad()
def test_maps_are_what_the_stock_model_attends_to() -> None:
    unet = make_deep_unet()
    resolution, layers = find_map_layers(unet, (32, 32))
    inputs = torch.randn(2, 4, 32, 32), torch.tensor([10, 700]), torch.randn(2, 5, 16)
    noise_pred, maps = TextToImage(unet, layers, NoiseOfEpsilon())(*inputs)
    assert resolution == (16, 16)
    assert maps.shape == (2, 256, 5)
    torch.testing.assert_close(maps, maps_by_hand(unet, layers, inputs))
    torch.testing.assert_close(noise_pred, unet(*inputs).sample)


def test_layers_are_those_of_down_and_up_blocks_at_16x16() -> None:
    _, layers = find_map_layers(make_deep_unet(), (32, 32))
    places = [layer.split(".transformer")[0] for layer in layers]
    assert places == ["down_blocks.1.attentions.0", "up_blocks.1.attentions.0", "up_blocks.1.attentions.1"]


@pytest.mark.parametrize(("latents", "maps"), [((64, 64), (32, 32)), ((16, 16), (16, 16)), ((16, 32), (16, 32))])
def test_nearest_resolution(latents: tuple[int, int], maps: tuple[int, int]) -> None:
    assert find_map_layers(make_deep_unet(), latents)[0] == maps


def test_no_common_resolution_is_an_error() -> None:
    unet = UNet2DConditionModel(
        block_out_channels=(8, 8),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    with pytest.raises(RealCompoError, match="no resolution with cross-attention in down and up blocks"):
        find_map_layers(unet, (16, 16))
