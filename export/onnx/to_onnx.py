"""PyTorch graph -> ONNX file, with torch's dynamo exporter."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import onnx_ir
import torch
from onnx_ir.passes import common
from onnxscript.optimizer import fold_constants
from torch import nn
from torch.export import ExportedProgram

from export.graphs.engine import Signature
from export.graphs.gradient import AttentionGradient, trace_gradient
from runtime.words import Precision

OPSETS: dict[Precision, int] = {"fp32": 20, "fp16": 20, "bf16": 22}  # 22 is the first whose convolutions take bf16
EXTERNAL_DATA_BYTES = 1_500_000_000  # a protobuf file holds at most 2 GiB
FOLDED_SIZE = 200  # elements: shapes and the like, but no weights, whose transposes would be stored beside them
MAX_TRACED_ROWS = 63  # diffusers' upsampling branches at 64 rows, on a no-op for ONNX: the graph takes any number


def export_onnx(
    graph: nn.Module,
    signature: Signature,
    inputs: dict[str, torch.Tensor],
    path: Path,
    precision: Precision = "fp32",
) -> list[Path]:
    """Write `graph`, traced with `inputs` (at least two rows), to `path`; its batch is symbolic.

    `precision` is that of the graph's weights.

    Returns:
        The written files: the .onnx, and the .onnx.data beside it when the weights do not fit into one file.
    """
    convert = partial(
        torch.onnx.export,
        dynamo=True,
        opset_version=OPSETS[precision],
        input_names=[tensor.name for tensor in signature.inputs],
        output_names=[tensor.name for tensor in signature.outputs],
        optimize=False,
        verbose=False,
    )
    with _quiet():
        if isinstance(graph, AttentionGradient):
            program = convert(_trace_gradient(graph, inputs))
        else:
            batch = torch.export.Dim("batch", min=1, max=MAX_TRACED_ROWS)
            program = convert(
                _Positional(graph, list(inputs)), tuple(inputs.values()), dynamic_shapes=(({0: batch},) * len(inputs),)
            )
        assert program is not None  # only dynamo=False returns None
        _declare_batch(program.model, signature, forget=isinstance(graph, AttentionGradient))
        _simplify(program.model)
    return _save(program.model, path)


class _Positional(nn.Module):
    """A graph that takes its inputs in their order: torch.export has no dynamic shapes for what `**kwargs` collect."""

    def __init__(self, graph: nn.Module, names: list[str]):
        super().__init__()
        self.whole = graph
        self.names = names

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        return self.whole(**dict(zip(self.names, tensors, strict=True)))


def _trace_gradient(graph: AttentionGradient, inputs: dict[str, torch.Tensor]) -> ExportedProgram:
    """Of fixed batch, for the traced graph takes any, and in operators that ONNX has: the exporter would trace all of
    it again to decompose it, in more time than all the rest takes."""
    program = torch.export.export(trace_gradient(graph, inputs), (), inputs, strict=False)
    program.run_decompositions = lambda *_: program
    return program


def _declare_batch(model: onnx_ir.Model, signature: Signature, forget: bool) -> None:
    """Write the signature's shapes, whose first size is symbolic, and forget those that a fixed batch led to."""
    if forget:
        for node in model.graph:
            for value in node.outputs:
                value.shape = None
    for values, tensors in ((model.graph.inputs, signature.inputs), (model.graph.outputs, signature.outputs)):
        for value, tensor in zip(values, tensors, strict=True):
            value.shape = onnx_ir.Shape(tensor.shape)


def _simplify(model: onnx_ir.Model) -> None:
    """Fold constants and remove what is not used; fusing is the engines' work.

    The exporter's own `optimize` also matches every node against dozens of patterns, in time quadratic in their number:
    three quarters of the export of a gradient graph.
    """
    fold_constants(model, onnx_shape_inference=True, input_size_limit=FOLDED_SIZE)
    for simplify in (
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedFunctionsPass(),
        common.RemoveUnusedOpsetsPass(),
        common.ClearMetadataAndDocStringPass(),  # stack traces of the exporting machine: larger than small models
    ):
        simplify(model)


def _save(model: onnx_ir.Model, path: Path) -> list[Path]:
    size = sum(w.const_value.nbytes for w in model.graph.initializers.values() if w.const_value is not None)
    if size <= EXTERNAL_DATA_BYTES:
        onnx_ir.save(model, path)
        return [path]
    data = path.with_name(f"{path.name}.data")
    onnx_ir.save(model, path, external_data=data.name)
    return [path, data]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's advice to its own developers."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
