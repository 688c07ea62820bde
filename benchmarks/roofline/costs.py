"""What an ONNX graph costs at the least: operations and memory traffic, counted from its nodes and shapes."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir
from onnxscript.optimizer import fold_constants

from export.onnx.to_onnx import FOLDED_SIZE

# Nodes that compute nothing: they move, name or repeat elements.
_MOVES = {"Cast", "Concat", "Constant", "ConstantOfShape", "Expand", "Flatten", "Gather", "GatherND", "Identity", "Pad"}
_MOVES |= {"Range", "Reshape", "Resize", "ScatterND", "Shape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
_MOVES |= {"QuantizeLinear", "DequantizeLinear"}  # of 8-bit graphs: what they round counts as a product's operand


@dataclass(frozen=True)
class Cost:
    """What one call costs.

    Memory traffic is a lower bound: that of an engine which runs matrix products and convolutions one by one and fuses
    all the rest into them. Every weight is read once. A product reads its activations and writes its output; of a
    product of two activations (attention) the largest of the three is left out, since fused attention never stores
    scores. What needs more passes than that, norms above all, is not counted.

    Args:
        flops: of matrix products and convolutions, exactly; a multiply-add is two.
        element_operations: one for each element that any other arithmetic node reads or writes, whichever are more.
            It tells how little this is beside `flops`; no bound is made of it.
        weights: elements of the products' weights, each once.
        activations: elements that products read and write.
    """

    flops: int
    element_operations: int
    weights: int
    activations: int

    def bytes(self, element_bytes: int) -> int:
        """Memory traffic if every element takes as many bytes."""
        return (self.weights + self.activations) * element_bytes


Shape = tuple[int, ...]


def cost_of(path: Path, rows: int) -> Cost:
    """What a call of an ONNX graph, whose inputs all begin with the batch, costs with so many rows."""
    weights: dict[onnx_ir.Value, int] = {}
    flops = activations = element_operations = 0
    for node in _with_static_shapes(path, rows).graph:
        if count := _FLOPS.get(node.op_type):
            operands = [value for value in (*node.inputs[:2], node.outputs[0]) if value]
            flops += count(node, *map(_shape, operands))
            weights |= {weight: _size(weight) for operand in operands if (weight := _stored(operand))}
            activations += _traffic([_size(operand) for operand in operands if not _stored(operand)])
        elif node.op_type not in _MOVES:
            element_operations += max(_size(value) for value in (*node.inputs, *node.outputs) if value)
    return Cost(flops, element_operations, sum(weights.values()), activations)


def _with_static_shapes(path: Path, rows: int) -> onnx_ir.Model:
    """The graph with its batch bound. Folding turns sizes that are computed from it into constants, which shape
    inference needs."""
    model = onnx_ir.load(path)
    for value in model.graph.inputs:
        value.shape = onnx_ir.Shape([rows, *_dims(value)[1:]])
    for node in model.graph:
        for value in node.outputs:
            value.shape = None
    fold_constants(model, onnx_shape_inference=True, input_size_limit=FOLDED_SIZE)
    return model


def _traffic(activations: list[int]) -> int:
    """Of a product's activations, the largest of three, which is attention's, left out."""
    return sum(sorted(activations)[:2])


def _stored(value: onnx_ir.Value) -> onnx_ir.Value | None:
    """The stored tensor that a value is a view of, if it is one."""
    while (producer := value.producer()) and producer.op_type in _MOVES and producer.inputs:
        assert producer.inputs[0] is not None
        value = producer.inputs[0]
    return value if value.const_value is not None else None


def _dims(value: onnx_ir.Value) -> tuple[Any, ...]:
    if value.shape is None:
        raise AssertionError(f"shape inference does not know {value.name}")
    return tuple(value.shape)


def _shape(value: onnx_ir.Value) -> Shape:
    return tuple(map(int, _dims(value)))


def _size(value: onnx_ir.Value) -> int:
    return math.prod(_shape(value))


def _matmul(node: onnx_ir.Node, left: Shape, right: Shape, output: Shape) -> int:
    return 2 * math.prod(output) * left[-1]


def _gemm(node: onnx_ir.Node, left: Shape, right: Shape, output: Shape) -> int:
    transposed = node.attributes.get_int("transA", 0)
    return 2 * math.prod(output) * left[0 if transposed else 1]


def _conv(node: onnx_ir.Node, data: Shape, weight: Shape, output: Shape) -> int:
    return 2 * math.prod(output) * math.prod(weight[1:])  # weight: (out, in / groups, *kernel)


def _conv_transpose(node: onnx_ir.Node, data: Shape, weight: Shape, output: Shape) -> int:
    return 2 * math.prod(data) * math.prod(weight[1:])  # weight: (in, out / groups, *kernel)


_FLOPS: dict[str, Callable[[onnx_ir.Node, Shape, Shape, Shape], int]] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
}
