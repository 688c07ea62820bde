"""Twins: what a graph is verified by where it is too large to run. A twin has the same operators and the same weights
for a smaller image.

A backward needs nearly all that the forward computes, so that one row of SDXL at 1024x1024 pixels takes tens of
gigabytes, wherever it runs. And a decoder's norms average over millions of numbers, which ONNX Runtime adds up in fp32
one after the other: at 1024x1024 pixels a single one is off by 1e-4.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from export.engines import engine_of, signature
from export.graphs.engine import example_inputs
from export.graphs.functional import call_with, own_tensors
from export.graphs.geometry import Geometry
from export.graphs.gradient import AttentionGradient
from export.plans.memory import WAYS_OUT, available_memory, gigabytes
from runtime.errors import RealCompoError
from runtime.words import Role

# What ONNX Runtime or PyTorch take to run a gradient graph, beside what PyTorch's autograd keeps of the forward.
OVERHEAD = 1.5
SMALLEST_SIDE = 4  # of what a twin is halved from, in latents and below
CONSTANT_SIZE = 200  # elements: shapes and the like, which may differ


def runnable_geometry(graph: nn.Module, role: Role, geometry: Geometry) -> Geometry:
    """The sizes at which this machine can run one row of the graph: the bundle's own, or halved as often as needed.

    Raises:
        RealCompoError: the smallest is too large.
    """
    engine = engine_of(role, geometry)
    if math.prod(geometry.image_size) > engine.most_pixels:
        fitting = (sizes for sizes in _halved(geometry) if math.prod(sizes.image_size) <= engine.most_pixels)
        return next(fitting, geometry)
    if not isinstance(graph, AttentionGradient):
        return geometry
    weights = sum(weight.nbytes for weight in graph.parameters())
    available = available_memory()
    for sizes in _halved(geometry):
        needed = weights + int(OVERHEAD * kept_for_backward(graph, role, sizes))
        if available is None or needed <= available:
            return sizes
    raise RealCompoError(
        f"{role}: to verify it takes about {gigabytes(needed)} of memory, {gigabytes(available or 0)} are available; "
        f"{WAYS_OUT}"
    )


def kept_for_backward(graph: AttentionGradient, role: Role, geometry: Geometry) -> int:
    """Bytes in fp32 that autograd keeps of a row's forward, weights left out. Nothing is computed."""
    tensors = own_tensors(graph)
    weights = {
        name: torch.empty_like(tensor, device="meta", dtype=torch.float32)
        for name, tensor in tensors.items()
        if isinstance(tensor, nn.Parameter)
    }
    buffers = {name: tensor.to("meta") for name, tensor in tensors.items() if name not in weights}
    inputs = example_inputs(signature(role, geometry), 1, geometry.vocabulary)
    own = {weight.untyped_storage()._cdata for weight in weights.values()}
    kept: dict[int, Tensor] = {}

    def keep(saved: Tensor) -> Tensor:
        kept.setdefault(saved.untyped_storage()._cdata, saved)
        return saved

    with saved_tensors_hooks(keep, lambda saved: saved):
        call_with(graph, weights | buffers, {name: tensor.to("meta") for name, tensor in inputs.items()})
    return sum(saved.untyped_storage().nbytes() for storage, saved in kept.items() if storage not in own)


def check_twin(path: Path, twin: Path) -> None:
    """Assert that two files hold the same graph for images of different sizes."""
    ours, theirs = (onnx.load(file, load_external_data=False).graph for file in (path, twin))
    same = _operators(ours) == _operators(theirs) and _weights(ours) == _weights(theirs)
    assert same, f"{path.name} and its twin are not the same graph: report this"


def _operators(graph: onnx.GraphProto) -> list[tuple[str, int, int]]:
    return [(node.op_type, len(node.input), len(node.output)) for node in graph.node]


def _weights(graph: onnx.GraphProto) -> list[tuple[int, ...]]:
    """Their shapes."""
    shapes = (tuple(weight.dims) for weight in graph.initializer)
    return sorted(shape for shape in shapes if torch.Size(shape).numel() > CONSTANT_SIZE)


def _halved(geometry: Geometry) -> Iterator[Geometry]:
    """The sizes themselves, and those of images half as high and wide, while everything stays whole."""
    yield geometry
    sides = [*geometry.latent_shape[1:], *geometry.image_size, *geometry.map_resolution]
    sides += [side for _, *size in geometry.residuals.values() for side in size]
    if all(side % 2 == 0 and side > SMALLEST_SIDE for side in sides):
        (height, width), (rows, columns) = geometry.image_size, geometry.map_resolution
        yield from _halved(
            replace(
                geometry,
                image_size=(height // 2, width // 2),
                latent_shape=_halve(geometry.latent_shape),
                map_resolution=(rows // 2, columns // 2),
                residuals={name: _halve(shape) for name, shape in geometry.residuals.items()},
            )
        )


def _halve(shape: tuple[int, ...]) -> tuple[int, int, int]:
    channels, height, width = shape
    return channels, height // 2, width // 2
