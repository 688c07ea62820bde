"""The precision audit: which operators of a graph compute in which type, and whether that is what was asked for.

TensorRT is strongly typed, so what is true of the ONNX graph is true of the plan.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import NodeProto, TensorProto

from runtime.errors import RealCompoError
from runtime.words import Precision, Role

_TYPES: dict[int, Precision] = {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16", TensorProto.BFLOAT16: "bf16"}
_PRODUCTS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}  # nearly all of the work: in the engine's precision
_ISLANDS = {  # norms and their statistics, the timestep's sines: fp32 in every engine
    "Cos",
    "GroupNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "Reciprocal",
    "ReduceMean",
    "Sin",
    "Sqrt",
}
_MAPS = {"attention_maps", "region_maps", "loss"}  # outputs: fp32 from the softmax on
_REGIONS = {"region_masks", "region_tokens", "region_weights"}  # inputs of the attention loss
_MOVES = {
    *("Cast", "Concat", "Constant", "Expand", "Gather", "GatherND", "Reshape", "ScatterND"),
    *("Shape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze", "Where"),
}
_STORED = 1000  # bytes: values that shape inference may need; weights are larger


@dataclass(frozen=True)
class Audit:
    """What computes in what; operators that only move data are left out."""

    counts: dict[str, dict[Precision, int]]  # operator -> precision -> how many
    violations: tuple[str, ...]  # one line each


def audit(path: Path, precision: Precision) -> Audit:
    """Look through an ONNX graph of an engine of the given precision."""
    graph = _Graph(path)
    counts: dict[str, Counter[Precision]] = defaultdict(Counter)
    for node in graph.nodes:
        if node.op_type not in _MOVES and (computes_in := graph.precision_of(node)):
            counts[node.op_type][computes_in] += 1
    violations = [*_wrong_products(graph, precision), *_wrong_islands(graph), *_wrong_maps(graph)]
    return Audit({name: dict(counts[name]) for name in sorted(counts)}, tuple(violations))


def check_precision(role: Role, path: Path, precision: Precision) -> None:
    """Raise RealCompoError if an operator of the role's graph computes in another type than it must."""
    if violations := audit(path, precision).violations:
        more = f", and {len(violations) - 1} more" if len(violations) > 1 else ""
        raise RealCompoError(f"{role} in {precision}: {violations[0]}{more}. TensorRT would run it so; report this")


class _Graph:
    """The nodes of an ONNX graph, and what type their tensors have."""

    def __init__(self, path: Path):
        model = onnx.load(path, load_external_data=False)
        for weight in model.graph.initializer:
            if len(weight.raw_data) > _STORED:
                weight.ClearField("raw_data")  # shape inference would copy it
        graph = onnx.shape_inference.infer_shapes(model).graph
        self.nodes: list[NodeProto] = list(graph.node)
        self.outputs = {value.name for value in graph.output}
        self.maker = {output: node for node in self.nodes for output in node.output}
        values = (*graph.value_info, *graph.input, *graph.output)
        self._types = {value.name: value.type.tensor_type.elem_type for value in values}
        self._types |= {weight.name: weight.data_type for weight in graph.initializer}
        self._sources = {value.name: {value.name} for value in graph.input}
        for node in self.nodes:  # in topological order
            found = set().union(*(self._sources.get(tensor, set()) for tensor in node.input))
            self._sources |= dict.fromkeys(node.output, set() if node.op_type == "Shape" else found)

    def precision(self, tensor: str) -> Precision | None:
        """None for integers and booleans."""
        return _TYPES.get(self._types[tensor])

    def precision_of(self, node: NodeProto) -> Precision | None:
        """The narrowest of a node's floating-point inputs and outputs."""
        found = {self.precision(tensor) for tensor in (*node.input, *node.output) if tensor} - {None}
        return min(found, key=lambda precision: precision == "fp32", default=None)

    def is_of_loss(self, product: NodeProto) -> bool:
        """Is one of its operands made from the regions alone?"""
        made_from = [self._sources.get(tensor, set()) for tensor in product.input]
        return any(inputs and inputs <= _REGIONS for inputs in made_from)


def _wrong_products(graph: _Graph, precision: Precision) -> Iterator[str]:
    for node in graph.nodes:
        if node.op_type in _PRODUCTS:
            yield from _unless(node, graph, "fp32" if graph.is_of_loss(node) else precision)


def _wrong_islands(graph: _Graph) -> Iterator[str]:
    for node in graph.nodes:
        if node.op_type in _ISLANDS:
            yield from _unless(node, graph, "fp32")


def _wrong_maps(graph: _Graph) -> Iterator[str]:
    """Everything from the maps' softmax to the outputs that maps are made into."""
    for output in sorted(_MAPS & graph.outputs):
        path = _back_to_softmax(graph, output)
        if not any(node.op_type == "Softmax" for node in path):
            yield f"{output} is not made from a softmax"
        for node in path:
            yield from _unless(node, graph, "fp32")


def _back_to_softmax(graph: _Graph, output: str) -> list[NodeProto]:
    """The nodes that `output` is made by, back to the first softmax on every way."""
    seen: dict[str, NodeProto] = {}
    waiting = [output]
    while waiting:
        tensor = waiting.pop()
        node = graph.maker.get(tensor)
        if node is None or node.output[0] in seen or graph.precision(tensor) is None:
            continue
        seen[node.output[0]] = node
        if node.op_type != "Softmax":
            waiting += node.input
    return list(seen.values())


def _unless(node: NodeProto, graph: _Graph, precision: Precision) -> Iterator[str]:
    if (found := graph.precision_of(node)) not in (None, precision):
        yield f"{node.op_type} {node.name} computes in {found} instead of {precision}"
