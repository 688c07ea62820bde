"""How what autograd leaves behind is said in operators that ONNX and TensorRT have.

Both norms are put in primitives, for TensorRT rejects normalization nodes with more than one output, and a backward
needs their statistics. These stay in float32 whatever the graph computes in.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._decomp import core_aten_decompositions, get_decompositions

aten = torch.ops.aten


def decompositions() -> dict[Any, Callable[..., Any]]:
    """The table for `make_fx`."""
    return {
        **core_aten_decompositions(),
        **get_decompositions([aten.native_layer_norm]),
        aten.native_group_norm.default: native_group_norm,
        aten.native_group_norm_backward.default: native_group_norm_backward,
        aten.native_layer_norm_backward.default: native_layer_norm_backward,
        aten.var_mean.correction: var_mean,
        aten.convolution_backward.default: convolution_backward,
        aten.gelu_backward.default: gelu_backward,
        aten.silu_backward.default: silu_backward,
        aten.slice_backward.default: slice_backward,
        aten.select_backward.default: select_backward,
        aten.squeeze.dims: squeeze,
    }


def native_group_norm(
    inputs: Tensor,
    weight: Tensor,
    bias: Tensor,
    batch: torch.SymInt,
    channels: int,
    pixels: int,
    groups: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Group norm of (B,C,H,W), with each group's mean and reciprocal deviation (B,groups,1).

    These keep a dimension more than PyTorch's, so that the backward shares the forward's operators. PyTorch's own
    decomposition restrides its statistics, which costs ONNX a gather of computed indices each time.
    """
    grouped = inputs.float().reshape(-1, groups, channels // groups * pixels)
    variance, mean = torch.var_mean(grouped, dim=-1, correction=0, keepdim=True)
    reciprocal = (variance + eps).rsqrt()
    normal = ((grouped - mean) * reciprocal).reshape(-1, *inputs.shape[1:])
    normal = normal * weight.reshape(-1, 1, 1) + bias.reshape(-1, 1, 1)
    return normal.to(inputs.dtype), mean, reciprocal


def native_group_norm_backward(
    cotangent: Tensor,
    inputs: Tensor,
    mean: Tensor,
    reciprocal: Tensor,
    weight: Tensor,
    batch: torch.SymInt,
    channels: int,
    pixels: int,
    groups: int,
    output_mask: Sequence[bool],
) -> tuple[Tensor, None, None]:
    """d/d inputs (B,C,H,W) of a group norm with frozen weights, from what the forward gave."""
    assert list(output_mask) == [True, False, False], "only norms with frozen weights"
    grouped, scaled = (
        tensor.float().reshape(-1, groups, channels // groups * pixels)
        for tensor in (inputs, cotangent * weight.reshape(-1, 1, 1))
    )
    gradient = _norm_backward(scaled, grouped, mean, reciprocal)
    return gradient.reshape(-1, *inputs.shape[1:]).to(inputs.dtype), None, None


def native_layer_norm_backward(
    cotangent: Tensor,
    inputs: Tensor,
    normalized_shape: Sequence[int],
    mean: Tensor,
    reciprocal: Tensor,
    weight: Tensor,
    bias: Tensor,
    output_mask: Sequence[bool],
) -> tuple[Tensor, None, None]:
    """d/d inputs (...,C) of a layer norm over its last dimension, with frozen weights."""
    assert list(output_mask) == [True, False, False] and len(normalized_shape) == 1, "only last dimensions, frozen"
    gradient = _norm_backward((cotangent * weight).float(), inputs.float(), mean, reciprocal)
    return gradient.to(inputs.dtype), None, None


def _norm_backward(cotangent: Tensor, inputs: Tensor, mean: Tensor, reciprocal: Tensor) -> Tensor:
    """Through (inputs - mean) * reciprocal over the last dimension, both statistics being of the inputs.

    PyTorch's own decompositions sum per channel first, which also serves the weights' gradients, and take twice the
    operators.
    """
    normal = (inputs - mean) * reciprocal
    shared = cotangent.mean(-1, keepdim=True) + normal * (cotangent * normal).mean(-1, keepdim=True)
    return (cotangent - shared) * reciprocal


def var_mean(inputs: Tensor, dim: Sequence[int], *, correction: int, keepdim: bool) -> tuple[Tensor, Tensor]:
    """The variance of a population, and the mean, over `dim`, which stays as 1."""
    assert correction == 0 and keepdim, "what norms ask for"
    mean = inputs.mean(list(dim), keepdim=True)
    centred = inputs - mean
    return (centred * centred).mean(list(dim), keepdim=True), mean


def convolution_backward(
    cotangent: Tensor,
    inputs: Tensor,
    weight: Tensor,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    output_mask: Sequence[bool],
) -> tuple[Tensor, None, None]:
    """d/d inputs (B,C,H,W) of a convolution: a transposed convolution of the cotangent with the same weight.

    With a stride of 1 that is a convolution with the weight mirrored, for which engines have faster kernels. They
    mirror it when they load the graph: the file has each weight once. Weights are frozen here: their own gradients are
    not asked for.
    """
    assert not transposed and list(output_mask) == [True, False, False], "only convolutions with frozen weights"
    if set(stride) == {1} and groups == 1:
        mirrored = weight.transpose(0, 1).flip(2, 3)
        around = [d * (k - 1) - p for d, k, p in zip(dilation, weight.shape[2:], padding, strict=True)]
        if min(around) >= 0:
            return aten.convolution(cotangent, mirrored, None, stride, around, dilation, False, [0, 0], 1), None, None
    # a strided convolution may leave out the last rows and columns of its input: their gradient is 0
    left_out = [
        (size + 2 * pad - dilate * (kernel - 1) - 1) % step
        for size, kernel, step, pad, dilate in zip(
            inputs.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True
        )
    ]
    return aten.convolution(cotangent, weight, None, stride, padding, dilation, True, left_out, groups), None, None


def gelu_backward(cotangent: Tensor, inputs: Tensor, *, approximate: str = "none") -> Tensor:
    """d/d inputs of x * F(x), F the normal distribution's: F(x) + x * f(x), with constants folded into the exponent."""
    assert approximate == "none", "what diffusers' feed-forward layers have"
    scaled = inputs * math.sqrt(0.5)
    tail = scaled * (-0.5 * math.log(math.pi) - scaled * scaled).exp()
    return cotangent * (0.5 * scaled.erf() + 0.5 + tail)


def silu_backward(cotangent: Tensor, inputs: Tensor) -> Tensor:
    """d/d inputs of y = x * s(x), s the sigmoid: y + s * (1 - y). The forward has both already."""
    share = inputs.sigmoid()
    outputs = inputs * share
    return cotangent * (outputs + share * (1 - outputs))


def slice_backward(
    cotangent: Tensor, sizes: Sequence[torch.SymInt], dim: int, start: int, end: int, step: int
) -> Tensor:
    """d/d inputs of `inputs[..., start:end, ...]`, a tensor of `sizes`: zeros around the cotangent.

    PyTorch's own decomposition makes the zeros first, of a shape that holds the batch.
    """
    assert step == 1, "only slices without gaps"
    if cotangent.shape[dim] == sizes[dim]:  # of all there is, along the batch as a rule
        return cotangent
    padding = [0, 0] * (cotangent.ndim - dim % cotangent.ndim)
    padding[-2:] = [start, int(sizes[dim]) - start - cotangent.shape[dim]]
    return aten.constant_pad_nd(cotangent, padding)


def select_backward(cotangent: Tensor, sizes: Sequence[torch.SymInt], dim: int, index: int) -> Tensor:
    """d/d inputs of `inputs.select(dim, index)`, a tensor of `sizes`: zeros around the cotangent."""
    start = index % int(sizes[dim])
    return slice_backward(cotangent.unsqueeze(dim), sizes, dim, start, start + 1, 1)


def squeeze(inputs: Tensor, dim: Sequence[int]) -> Tensor:
    """`inputs` without the dimensions `dim`, all of size 1."""
    left_out = {d % inputs.ndim for d in dim}
    return inputs.reshape([size for d, size in enumerate(inputs.shape) if d not in left_out])
