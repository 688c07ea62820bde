"""How what autograd leaves behind is said in operators that ONNX and TensorRT have.

Both norms are put in primitives, for TensorRT rejects normalization nodes with more than one output, and a backward
needs their statistics. These stay in float32 whatever the graph computes in.
"""

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
        aten.var_mean.correction: var_mean,
        aten.convolution_backward.default: convolution_backward,
        aten.slice_backward.default: slice_backward,
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
    """Group norm of (B,C,H,W), with each group's mean and reciprocal deviation (B,groups).

    PyTorch's own decomposition restrides its statistics, which costs ONNX a gather of computed indices each time.
    """
    grouped = inputs.float().reshape(-1, groups, channels // groups * pixels)
    variance, mean = torch.var_mean(grouped, dim=-1, correction=0, keepdim=True)
    reciprocal = (variance + eps).rsqrt()
    normal = ((grouped - mean) * reciprocal).reshape(-1, *inputs.shape[1:])
    normal = normal * weight.reshape(-1, 1, 1) + bias.reshape(-1, 1, 1)
    return normal.to(inputs.dtype), mean.reshape(-1, groups), reciprocal.reshape(-1, groups)


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

    Weights are frozen here: their own gradients are not asked for.
    """
    assert not transposed and list(output_mask) == [True, False, False], "only convolutions with frozen weights"
    # a strided convolution may leave out the last rows and columns of its input: their gradient is 0
    left_out = [
        (size + 2 * pad - dilate * (kernel - 1) - 1) % step
        for size, kernel, step, pad, dilate in zip(
            inputs.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True
        )
    ]
    return aten.convolution(cotangent, weight, None, stride, padding, dilation, True, left_out, groups), None, None


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


def squeeze(inputs: Tensor, dim: Sequence[int]) -> Tensor:
    """`inputs` without the dimensions `dim`, all of size 1."""
    left_out = {d % inputs.ndim for d in dim}
    return inputs.reshape([size for d, size in enumerate(inputs.shape) if d not in left_out])
