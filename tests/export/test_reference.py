"""fp32 arithmetic on half-precision weights, against a model that is fp32 throughout."""

import copy
import gc

import pytest
import torch
from torch import Tensor, nn

from export.onnx.reference import computed_in_fp32


class Small(nn.Module):
    """Products, a norm, attention, an embedding, and a cast to what the weights are stored in."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 8, 3, padding=1), nn.GroupNorm(2, 8)
        self.first, self.second = nn.Linear(8, 32), nn.Linear(16, 8)
        self.embedding = nn.Embedding(10, 8)

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        x = x.to(self.conv.weight.dtype)
        pixels = self.norm(self.conv(x)).flatten(2).transpose(1, 2)  # (B, P, 8)
        text = self.embedding(ids)
        mixed = nn.functional.scaled_dot_product_attention(pixels, text, text)
        gate, value = self.first(mixed).chunk(2, dim=-1)
        return self.second(nn.functional.gelu(gate) * value)


@pytest.fixture(params=[torch.float16, torch.bfloat16], ids=["fp16", "bf16"])
def narrow(request: pytest.FixtureRequest) -> Small:
    torch.manual_seed(0)
    return Small().to(request.param).requires_grad_(False)


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 4, 4, 4, generator=generator).requires_grad_(), torch.tensor([[1, 2, 3], [4, 5, 6]])


def test_it_computes_what_fp32_throughout_computes(narrow: Small) -> None:
    (x, ids), (y, _) = inputs(), inputs()
    with computed_in_fp32():
        found = narrow(x, ids)
        (gradient,) = torch.autograd.grad(found.square().sum(), x)
    wanted = copy.deepcopy(narrow).float()(y, ids)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
    torch.testing.assert_close(gradient, torch.autograd.grad(wanted.square().sum(), y)[0], rtol=0, atol=1e-6)
    assert narrow.conv.weight.dtype == next(narrow.parameters()).dtype != torch.float32  # as before


def test_nothing_wide_is_kept_of_weights() -> None:
    """Autograd would keep every layer's weight for the backward; here it keeps the narrow one."""
    layers = nn.Sequential(*(nn.Linear(64, 64, bias=False) for _ in range(20))).half().requires_grad_(False)
    x = torch.randn(1, 64, requires_grad=True)
    before = wide_squares()
    with computed_in_fp32():
        y = layers(x)
    assert wide_squares() == before
    (gradient,) = torch.autograd.grad(y.sum(), x)
    wanted = torch.ones(1, 64)
    for layer in reversed(layers):
        wanted = wanted @ layer.weight.float()
    torch.testing.assert_close(gradient, wanted)


def wide_squares() -> int:
    tensors = [tensor for tensor in gc.get_objects() if type(tensor) in (Tensor, nn.Parameter)]
    return sum(tensor.dtype == torch.float32 and tensor.numel() == 64 * 64 for tensor in tensors)
