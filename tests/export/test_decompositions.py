"""The operators that autograd's graphs are put into, against PyTorch's own."""

from typing import Any

import pytest
import torch
from diffusers.models.upsampling import Upsample2D
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F

from export.graphs.decompositions import (
    convolution_backward,
    decompositions,
    gelu_backward,
    native_group_norm,
    native_group_norm_backward,
    native_layer_norm_backward,
    select_backward,
    silu_backward,
    slice_backward,
    squeeze,
    var_mean,
)
from export.graphs.gradient import _multiply_unflattened, _OpenUpsample


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "groups"),
    [(1, 1, 0, 1, 1), (3, 1, 1, 1, 1), (3, 2, 1, 1, 1), (3, 2, 0, 1, 2), (3, 1, 2, 2, 1), (2, 3, 1, 1, 1)],
)
def test_convolution_backward_is_autograd_s(
    kernel: int, stride: int, padding: int, dilation: int, groups: int, size: int
) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(2, 4, size, size + 1, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 4 // groups, kernel, kernel, dtype=torch.float64)
    settings = [[number] * 2 for number in (stride, padding, dilation)]
    outputs = F.conv2d(inputs, weight, None, *settings, groups)  # type: ignore[arg-type]
    cotangent = torch.randn_like(outputs)
    (wanted,) = torch.autograd.grad(outputs, inputs, cotangent)
    found, *others = convolution_backward(
        cotangent, inputs, weight, None, *settings, False, [0, 0], groups, [True, False, False]
    )
    torch.testing.assert_close(found, wanted)
    assert others == [None, None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_group_norm_is_pytorch_s_with_statistics_in_fp32(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    inputs, weight, bias = (torch.randn(*shape).to(dtype) for shape in ((3, 8, 4, 6), (8,), (8,)))
    sizes = (3, 8, 24, 4, 1e-5)
    wanted = torch.ops.aten.native_group_norm(inputs.float(), weight.float(), bias.float(), *sizes)
    found = native_group_norm(inputs, weight, bias, *sizes)
    assert [tensor.dtype for tensor in found] == [dtype, torch.float32, torch.float32]
    torch.testing.assert_close(found[0].float(), wanted[0], atol=1e-5 if dtype == torch.float32 else 4e-3, rtol=1e-3)
    torch.testing.assert_close([statistic.squeeze(-1) for statistic in found[1:]], list(wanted[1:]))


@pytest.mark.parametrize("groups", [1, 4])
def test_group_norm_backward_is_autograd_s(groups: int) -> None:
    torch.manual_seed(3)
    inputs = torch.randn(3, 8, 4, 6, requires_grad=True)
    weight, bias = torch.randn(8), torch.randn(8)
    outputs, mean, reciprocal = torch.ops.aten.native_group_norm(inputs, weight, bias, 3, 8, 24, groups, 1e-5)
    cotangent = torch.randn_like(outputs)
    (wanted,) = torch.autograd.grad(outputs, inputs, cotangent)
    found, *others = native_group_norm_backward(
        cotangent, inputs, mean[..., None], reciprocal[..., None], weight, 3, 8, 24, groups, [True, False, False]
    )
    torch.testing.assert_close(found, wanted)
    assert others == [None, None]


def test_layer_norm_backward_is_autograd_s() -> None:
    torch.manual_seed(4)
    inputs = torch.randn(3, 5, 8, requires_grad=True)
    weight, bias = torch.randn(8), torch.randn(8)
    outputs, mean, reciprocal = torch.ops.aten.native_layer_norm(inputs, [8], weight, bias, 1e-5)
    cotangent = torch.randn_like(outputs)
    (wanted,) = torch.autograd.grad(outputs, inputs, cotangent)
    found, *_ = native_layer_norm_backward(cotangent, inputs, [8], mean, reciprocal, weight, bias, [True, False, False])
    torch.testing.assert_close(found, wanted)


def test_variance_and_mean_are_numpy_s() -> None:
    inputs = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(2))
    variance, mean = var_mean(inputs, [0, -1], correction=0, keepdim=True)
    torch.testing.assert_close(variance, torch.from_numpy(inputs.numpy().var((0, 2), keepdims=True)))
    torch.testing.assert_close(mean, torch.from_numpy(inputs.numpy().mean((0, 2), keepdims=True)))


@pytest.mark.parametrize(("dim", "start", "end"), [(1, 0, 3), (1, 2, 9), (-1, 3, 5), (2, 0, 2**63 - 1)])
def test_slice_backward_is_autograd_s(dim: int, start: int, end: int) -> None:
    inputs = torch.randn(2, 9, 6, requires_grad=True)
    outputs = torch.ops.aten.slice(inputs, dim, start, end)
    cotangent = torch.randn_like(outputs)
    (wanted,) = torch.autograd.grad(outputs, inputs, cotangent)
    torch.testing.assert_close(slice_backward(cotangent, inputs.shape, dim, start, end, 1), wanted)


@pytest.mark.parametrize(("dim", "index"), [(1, 0), (1, -1), (2, 3), (-1, 1)])
def test_select_backward_is_autograd_s(dim: int, index: int) -> None:
    inputs = torch.randn(2, 3, 5, 4, requires_grad=True)
    selected = inputs.select(dim, index)
    cotangent = torch.randn_like(selected)
    (wanted,) = torch.autograd.grad(selected, inputs, cotangent)
    torch.testing.assert_close(select_backward(cotangent, inputs.shape, dim, index), wanted)


@pytest.mark.parametrize(("activate", "backward"), [(F.gelu, gelu_backward), (F.silu, silu_backward)])
def test_activations_backward_is_autograd_s(activate: Any, backward: Any) -> None:
    inputs = torch.linspace(-30, 30, 4001, dtype=torch.float64).requires_grad_()
    cotangent = torch.randn(inputs.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    (wanted,) = torch.autograd.grad(activate(inputs), inputs, cotangent)
    torch.testing.assert_close(backward(cotangent, inputs.detach()), wanted)
    halves = backward(cotangent.half(), inputs.detach().half())  # nothing overflows
    torch.testing.assert_close(halves.double(), wanted, atol=2e-2, rtol=1e-2)


def test_products_stay_unflattened() -> None:
    weight, x = torch.randn(8, 6), torch.randn(2, 5, 8)

    def gradient(x: torch.Tensor) -> torch.Tensor:
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad((leaf @ weight).square().sum(), leaf)[0]

    traced = make_fx(gradient, decomposition_table=decompositions())(x)
    wanted = traced(x)
    assert traced.graph.find_nodes(op="call_function", target=torch.ops.aten.mm.default)
    _multiply_unflattened(traced.graph)
    traced.recompile()
    assert not traced.graph.find_nodes(op="call_function", target=torch.ops.aten.mm.default)
    assert not traced.graph.find_nodes(op="call_function", target=torch.ops.aten.view.default)
    torch.testing.assert_close(traced(x), wanted)


def test_squeeze_leaves_out_what_is_named() -> None:
    assert squeeze(torch.zeros(2, 1, 3, 1, 1), [1, -1]).shape == (2, 3, 1)


def test_no_node_has_a_norm_or_a_convolution_backward() -> None:
    norm, group = torch.nn.LayerNorm(8).requires_grad_(False), torch.nn.GroupNorm(2, 4).requires_grad_(False)
    weight = torch.randn(4, 4, 3, 3)

    def gradient(x: torch.Tensor) -> torch.Tensor:
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(norm(group(F.conv2d(leaf, weight, padding=1))).square().sum(), leaf)[0]

    x = torch.randn(2, 4, 8, 8)
    traced = make_fx(gradient, decomposition_table=decompositions())(x)
    names = {str(node.target) for node in traced.graph.nodes if node.op == "call_function"}
    assert not [name for name in names if "norm" in name or "backward" in name]
    torch.testing.assert_close(traced(x), gradient(x), rtol=1e-4, atol=1e-4)


def test_open_upsampling_is_diffusers_and_its_backward_a_block_sum() -> None:
    torch.manual_seed(2)
    upsample = Upsample2D(4, use_conv=True)
    x = torch.randn(2, 4, 5, 6)
    torch.testing.assert_close(_OpenUpsample(upsample)(x), upsample(x))
    upsample.conv = torch.nn.Identity()
    leaf, cotangent = x.requires_grad_(), torch.randn(2, 4, 10, 12)
    (found,) = torch.autograd.grad(_OpenUpsample(upsample)(leaf), leaf, cotangent)
    torch.testing.assert_close(found, cotangent.unfold(2, 2, 2).unfold(3, 2, 2).sum((-1, -2)))
