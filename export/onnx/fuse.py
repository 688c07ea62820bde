"""Attention as one operator of ONNX Runtime's own, `MultiHeadAttention` of the domain com.microsoft.

The exporter writes fused attention as two products around a softmax. TensorRT finds that and fuses it again; ONNX
Runtime does not, and on a GPU the scores of a 64x64 latent, 4096 x 4096 a head, are then written and read four times.
Graphs for TensorRT cannot have its operator, so a bundle has both graphs, over the same weights.
"""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

DOMAIN = "com.microsoft"
_SPLIT = "Transpose 0 2 1 3"  # (B,P,heads,C) to (B,heads,P,C)
# What torch's exporter writes of attention, from a product upwards, by first inputs
_QUERY = ("Mul", _SPLIT, "Reshape")
_KEY = ("Mul", "Reshape", "Transpose 0 2 1", "Reshape", _SPLIT, "Reshape")
_VALUE = (_SPLIT, "Reshape")
_JOIN = ("MatMul", _SPLIT, "Reshape")  # from the softmax downwards


def fuse_attention(path: Path, fused: Path) -> int:
    """Write a graph to `fused`, in the same folder, with fused attention, and return how many layers have it.

    Both files refer to the same external data. Layers whose softmax is asked for, as maps are, stay as they are. If
    there is no other, nothing is written.
    """
    model = onnx.load(path, load_external_data=False)
    graph = _Graph(model)
    found = {
        id(layer.last): layer.fused()
        for node in model.graph.node
        if node.op_type == "Softmax" and (layer := _find(graph, node))
    }
    if found:
        nodes = [found.get(id(node), node) for node in model.graph.node]
        _replace(model, nodes)
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
        fused.write_bytes(model.SerializeToString())
    return len(found)


class _Graph:
    """Who gives and takes a tensor."""

    def __init__(self, model: ModelProto) -> None:
        self.giver = {name: node for node in model.graph.node for name in node.output}
        self.takers = defaultdict[str, list[NodeProto]](list)
        for node in model.graph.node:
            for name in node.input:
                self.takers[name].append(node)
        self._weights = {weight.name: weight for weight in model.graph.initializer if not weight.external_data}
        self._asked = {output.name for output in model.graph.output}

    def climb(self, name: str, kinds: tuple[str, ...]) -> list[NodeProto]:
        """The nodes of these kinds that a tensor comes from, the nearest first; empty if it does not."""
        nodes: list[NodeProto] = []
        for kind in kinds:
            node = self.giver.get(name)
            if node is None or _kind(node) != kind:
                return []
            nodes.append(node)
            name = node.input[0]
        return nodes

    def descend(self, node: NodeProto, kinds: tuple[str, ...]) -> list[NodeProto]:
        """The nodes of these kinds that a node's output goes to and nobody else's; empty if it does not."""
        nodes: list[NodeProto] = []
        for kind in kinds:
            takers = self.takers[node.output[0]]
            if len(takers) != 1 or _kind(takers[0]) != kind or node.output[0] in self._asked:
                return []
            (node,) = takers
            nodes.append(node)
        return nodes

    def values(self, name: str) -> np.ndarray | None:
        """Of a small constant, or of several one after the other; None of what is not constant."""
        if name in self._weights:
            return numpy_helper.to_array(self._weights[name])
        node = self.giver.get(name)
        if node is None or node.op_type != "Constant":
            return None
        value = helper.get_attribute_value(node.attribute[0])  # a tensor, or numbers
        return numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.array(value)

    def size(self, shape: str, place: int) -> int | None:
        """An entry of a shape, of which others may depend on the batch."""
        node = self.giver.get(shape)
        if node is not None and node.op_type == "Concat":  # of one entry each
            shape, place = node.input[place], 0
        values = self.values(shape)
        return None if values is None else int(values.reshape(-1)[place])


@dataclass(frozen=True)
class _Attention:
    """One layer: what goes in, each (B, P or L, heads * C), and the last of its nodes."""

    query: str
    key: str
    value: str
    heads: int
    scale: float  # of scores
    last: NodeProto

    def fused(self) -> NodeProto:
        return helper.make_node(
            "MultiHeadAttention",
            [self.query, self.key, self.value],
            list(self.last.output),
            name=f"attention_{self.last.output[0]}",
            domain=DOMAIN,
            num_heads=self.heads,
            scale=self.scale,
        )


def _find(graph: _Graph, softmax: NodeProto) -> _Attention | None:
    """The attention around a softmax, if it is written as expected and nothing else needs its parts."""
    scores, after = graph.climb(softmax.input[0], ("MatMul",)), graph.descend(softmax, _JOIN)
    if not scores or not after or after[0].input[0] != softmax.output[0]:
        return None
    query, key = graph.climb(scores[0].input[0], _QUERY), graph.climb(scores[0].input[1], _KEY)
    value = graph.climb(after[0].input[1], _VALUE)
    if not query or not key or not value:
        return None
    scales = [graph.values(nodes[0].input[1]) for nodes in (query, key)]
    heads = graph.size(query[-1].input[1], 2)
    if heads is None or any(scale is None or scale.size != 1 for scale in scales):
        return None
    scale = float(np.prod([scale for scale in scales if scale is not None]))
    return _Attention(query[-1].input[0], key[-1].input[0], value[-1].input[0], heads, scale, after[-1])


def _kind(node: NodeProto) -> str:
    """An operator, and of a transpose its order."""
    if node.op_type != "Transpose":
        return str(node.op_type)
    return " ".join(["Transpose", *(str(axis) for axis in helper.get_attribute_value(node.attribute[0]))])


def _replace(model: ModelProto, nodes: list[NodeProto]) -> None:
    """Give a model other nodes, without those and the weights that nobody needs any more."""
    needed, kept = {output.name for output in model.graph.output}, []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    weights = [weight for weight in model.graph.initializer if weight.name in needed]
    for field, left in (("node", kept[::-1]), ("initializer", weights)):
        model.graph.ClearField(field)
        getattr(model.graph, field).extend(left)
