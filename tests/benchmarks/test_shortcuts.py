"""Gradients past all branches: exact where the branches add nothing, and no change to what is computed."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor

from benchmarks.gradients.shortcuts import only_shortcuts
from tests.export.conftest import TOKENS, WIDTH, make_unet


@pytest.fixture
def unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return make_unet(grounded=False).double().requires_grad_(False)


def run(unet: UNet2DConditionModel) -> tuple[Tensor, Tensor]:
    """The output, and the gradient of a random projection of it."""
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(2, 4, 8, 8, generator=generator, dtype=torch.float64).requires_grad_()
    text = torch.randn(2, TOKENS, WIDTH, generator=generator, dtype=torch.float64)
    output = unet(latents, 500, encoder_hidden_states=text).sample
    cotangent = torch.randn(output.shape, generator=generator, dtype=torch.float64)
    return output.detach(), torch.autograd.grad(output, latents, cotangent)[0]


def silence_branches(unet: UNet2DConditionModel) -> None:
    for module in unet.modules():
        match module:
            case ResnetBlock2D():
                last = [module.conv2]
            case Transformer2DModel():
                last = [module.proj_out]
            case BasicTransformerBlock():
                last = [module.attn1.to_out[0], module.attn2.to_out[0], module.ff.net[2]]
            case _:
                last = []
        for layer in last:
            layer.weight.zero_()
            layer.bias.zero_()


def test_values_stay_and_gradients_change(unet: UNet2DConditionModel) -> None:
    output, gradient = run(unet)
    with only_shortcuts(unet):
        same, shortcut = run(unet)
    torch.testing.assert_close(same, output)
    assert not torch.allclose(shortcut, gradient, rtol=0.1)
    again, whole = run(unet)
    torch.testing.assert_close((again, whole), (output, gradient))


def test_exact_where_branches_add_nothing(unet: UNet2DConditionModel) -> None:
    silence_branches(unet)
    _, gradient = run(unet)
    with only_shortcuts(unet):
        _, shortcut = run(unet)
    assert gradient.abs().max() > 0
    torch.testing.assert_close(shortcut, gradient)
