"""bf16 graphs for machines without bf16 arithmetic: the same rounding, with fp32 in between.

ONNX Runtime has no bf16 kernels for a CPU. A widened graph stores every tensor in bf16 and computes each operator in
fp32, as tensor cores do, which add up products of bf16 in fp32 and round once.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper

from export.onnx.derive import check_apart, copy_engine, publish_derived
from export.onnx.to_onnx import EXTERNAL_DATA_BYTES
from export.provenance import absolute
from export.publish import store_graph
from export.staging import disk_errors, scratch_folder
from runtime.bundle.manifest import EngineSpec, Manifest, check_files, read_manifest
from runtime.errors import RealCompoError
from runtime.words import Role

_LEFT_ALONE = ("Cast", "Constant")  # these ONNX Runtime has in bf16


def widen_bundle(bundle: Path, out: Path) -> Manifest:
    """Write to `out` the bf16 bundle `bundle` with widened graphs and no plans.

    Raises:
        RealCompoError: it is not a bf16 bundle, or `out` is the bundle itself.
    """
    manifest = read_manifest(bundle)
    if manifest.precision != "bf16":
        raise RealCompoError(f"{bundle} is {manifest.precision}, which ONNX Runtime runs as it is: widen bf16 bundles")
    check_apart(bundle, out)
    check_files(bundle, manifest)
    command = "widen", str(absolute(bundle))
    with scratch_folder(out, command) as scratch, disk_errors(out):
        engines: dict[Role, EngineSpec] = {}
        for role, engine in manifest.engines.items():
            engines[role] = _widen_engine(bundle, engine, list(engines.values()), scratch)
        changed = manifest.model_copy(update={"backend": "onnx", "command": command})
        return publish_derived(bundle, changed, engines, scratch, out)


def _widen_engine(bundle: Path, engine: EngineSpec, earlier: Sequence[EngineSpec], folder: Path) -> EngineSpec:
    graphs = engine.model_copy(update={"plan": None})
    if engine.precision != "bf16":
        return copy_engine(bundle, graphs, folder)
    files = widen_file(bundle / engine.graph[0].name, folder)
    if engine.golden:  # the same rounding gives the same values
        shutil.copyfile(bundle / engine.golden.name, folder / engine.golden.name)
    return graphs.model_copy(update={"graph": store_graph(engine.role, files, earlier)})


@contextmanager
def runnable_on_cpu(path: Path, scratch: Path | None = None) -> Iterator[Path]:
    """The graph, or while the block lasts a widened one of it if it has bf16 operators: in `scratch` or the system's
    folder for temporary files, for the graph's own may be read-only."""
    if not _has_bf16(onnx.load(path, load_external_data=False)):
        yield path
        return
    with tempfile.TemporaryDirectory(dir=scratch, prefix="widened-") as folder:
        yield widen_file(path, Path(folder))[0]


def widen_file(path: Path, folder: Path) -> list[Path]:
    """Write the widened graph of an .onnx file to `folder`, under its name; also returns its external data, if any."""
    model = onnx.load(path)
    size = model.ByteSize()
    widen(model)
    graph = folder / path.name
    if size <= EXTERNAL_DATA_BYTES:
        onnx.save(model, graph)
        return [graph]
    data = f"{path.name}.data"
    onnx.save(model, graph, save_as_external_data=True, location=data)
    return [graph, folder / data]


def widen(model: ModelProto) -> None:
    """Put every bf16 operator of a graph, in place, in fp32 between casts."""
    types = _types(model)
    widened: set[str] = set()
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if node.op_type not in _LEFT_ALONE:
            nodes += _widened_inputs(node, types, widened)
            nodes += [node, *_narrowed_outputs(node, types)]
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.value_info[:]


def _widened_inputs(node: NodeProto, types: dict[str, int], widened: set[str]) -> list[NodeProto]:
    """Casts to fp32 of a node's bf16 inputs, each tensor once; the node now takes those."""
    casts = []
    for i, name in enumerate(node.input):
        if types.get(name) != TensorProto.BFLOAT16:
            continue
        node.input[i] = f"{name}.wide"
        if name not in widened:
            widened.add(name)
            casts.append(helper.make_node("Cast", [name], [f"{name}.wide"], to=TensorProto.FLOAT))
    return casts


def _narrowed_outputs(node: NodeProto, types: dict[str, int]) -> list[NodeProto]:
    """Casts back to bf16 of what a node gives."""
    casts = []
    for i, name in enumerate(node.output):
        if types.get(name) == TensorProto.BFLOAT16:
            node.output[i] = f"{name}.exact"
            casts.append(helper.make_node("Cast", [f"{name}.exact"], [name], to=TensorProto.BFLOAT16))
    return casts


def _types(model: ModelProto) -> dict[str, int]:
    """The element type of every tensor."""
    graph = onnx.shape_inference.infer_shapes(_without_weights(model)).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    return types | {weight.name: weight.data_type for weight in model.graph.initializer}


def _without_weights(model: ModelProto) -> ModelProto:
    """A copy that shape inference can handle whatever the weights' size."""
    copy = ModelProto()
    copy.CopyFrom(model)
    for weight in copy.graph.initializer:
        if len(weight.raw_data) > 1000:
            weight.ClearField("raw_data")
    return copy


def _has_bf16(model: ModelProto) -> bool:
    return any(weight.data_type == TensorProto.BFLOAT16 for weight in model.graph.initializer)
