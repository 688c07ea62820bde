"""Is an ONNX graph what PyTorch computes? Per output, the relative error on random inputs."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from tokenizers import Tokenizer
from torch import nn

from export.checkpoints.digests import weight_digests
from export.checkpoints.folders import Checkpoints
from export.engines import load_graph
from export.external_data import stored_bytes
from export.graphs.engine import Signature, example_inputs
from export.graphs.geometry import Geometry
from export.measure import measure
from export.onnx.precision import DTYPES
from export.onnx.reference import computed_in_fp32
from export.onnx.widen import runnable_on_cpu
from export.pairs import Control, Pair
from export.spatial import KINDS, open_checkpoints
from runtime.bundle.deviation import relative_error
from runtime.bundle.limits import build_limit
from runtime.bundle.manifest import EngineSpec, Manifest, check_files, read_manifest
from runtime.errors import RealCompoError
from runtime.words import Precision, Role

CHECKED_ROWS = (1, 3)
FLOAT64_PARAMETERS = 30_000_000  # larger graphs are compared in fp32, on one row: memory has to hold them
OPTIMIZED_BYTES = 500_000_000  # larger graphs run as they are: optimizing takes copies of their weights

Outputs = dict[str, np.ndarray]
Expected = dict[int, list[np.ndarray]]  # rows -> outputs in the signature's order


@dataclass(frozen=True)
class Check:
    """How one engine was verified: errors against its checkpoint, or None where only its outputs were looked at; and
    why not all was measured here."""

    role: Role
    errors: dict[str, float] | None
    why: str = ""


def loaded_type(parameters: int, precision: Precision) -> torch.dtype:
    """In what type the weights of a graph to be verified are loaded: memory holds large ones in the engine's alone."""
    return torch.float32 if parameters <= FLOAT64_PARAMETERS else DTYPES[precision]


def expected_outputs(graph: nn.Module, signature: Signature, vocabulary: int) -> Expected:
    """What PyTorch computes on random inputs: in float64, or for large graphs on one row in fp32, whatever their
    weights are stored in."""
    if sum(weight.numel() for weight in graph.parameters()) <= FLOAT64_PARAMETERS:
        exact = copy.deepcopy(graph).double()
        return {
            count: _run_torch(exact, _double(example_inputs(signature, count, vocabulary))) for count in CHECKED_ROWS
        }
    with computed_in_fp32():
        return {1: _run_torch(graph, example_inputs(signature, 1, vocabulary))}


def relative_errors(
    expected: Expected, path: Path, signature: Signature, vocabulary: int, scratch: Path | None = None
) -> dict[str, float]:
    """Per output, max |ONNX Runtime - PyTorch| / max |PyTorch| over batches of several sizes.

    Args:
        scratch: where a widened graph may be written meanwhile; the system's folder for such if not given.

    Raises:
        RealCompoError: ONNX Runtime cannot run the graph, or its inputs and outputs are not the signature's.
    """
    session = _open_session(path, signature, scratch)
    worst = {tensor.name: 0.0 for tensor in signature.outputs}
    for rows, targets in expected.items():
        found = _run_onnx(session, example_inputs(signature, rows, vocabulary))
        for (name, output), target in zip(found.items(), targets, strict=True):
            worst[name] = float(np.maximum(worst[name], relative_error(output, target)))  # unlike max, keeps NaN
    return worst


def check_errors(role: Role, errors: dict[str, float], precision: Precision) -> None:
    """Raise RealCompoError if an output is farther from PyTorch than its precision explains."""
    for output, error in errors.items():
        limit = build_limit(precision, output)
        if not error <= limit:  # NaN fails too
            raise RealCompoError(
                f"{role}: {output} differs from PyTorch by {error:.1e}; at most {limit:.0e} is accepted in {precision}"
            )


def verify_bundle(folder: Path) -> Iterator[Check]:
    """Check a bundle engine by engine: hashes, ONNX, inputs and outputs, and figures.

    Where the checkpoints it was built from are at hand the figures are measured again, else the outputs must be finite.

    Raises:
        RealCompoError: the first thing that is wrong.
    """
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    checkpoints = checkpoints_at_hand(folder, manifest)
    geometry = measure(checkpoints, *manifest.image_size) if checkpoints else None
    vocabulary = Tokenizer.from_file(str(folder / manifest.tokenizer.name)).get_vocab_size()
    for role, engine in manifest.engines.items():
        paths = [folder / name for name in dict.fromkeys((engine.graph[0].name, engine.for_onnx_runtime.name))]
        for path in paths:
            _check_onnx(path)
        if engine.verified_size:
            yield Check(role, engine.verification, _told_of_twin(engine.verified_size))
        elif checkpoints and geometry and not engine.quantization:
            yield Check(role, _measured_again(engine, paths, checkpoints, geometry))
        else:
            for path in paths:
                _check_outputs(engine, path, vocabulary)
            yield Check(role, None, "it is quantized" if engine.quantization else "its checkpoint is not at hand")


def _told_of_twin(size: tuple[int, int]) -> str:
    height, width = size
    return f"of a twin for {width}x{height} pixels, when it was built"


def _measured_again(
    engine: EngineSpec, paths: Sequence[Path], checkpoints: Checkpoints, geometry: Geometry
) -> dict[str, float]:
    """The larger errors of an engine's graphs, the fused one's or the other's."""
    dtype = loaded_type(stored_bytes(paths[0]) // DTYPES[engine.precision].itemsize, engine.precision)
    graph = load_graph(engine.role, checkpoints, geometry, dtype=dtype)
    signature = _signature_of(engine)
    expected = expected_outputs(graph, signature, geometry.vocabulary)
    found = [relative_errors(expected, path, signature, geometry.vocabulary) for path in paths]
    for errors in found:
        check_errors(engine.role, errors, engine.precision)
    return {name: max(errors[name] for errors in found) for name in found[0]}


def _check_outputs(engine: EngineSpec, path: Path, vocabulary: int) -> None:
    signature = _signature_of(engine)
    session = _open_session(path, signature)
    for rows in CHECKED_ROWS:
        outputs = _run_onnx(session, example_inputs(signature, rows, vocabulary))
        for tensor in signature.outputs:
            found = outputs[tensor.name]
            if found.shape != (rows, *tensor.shape[1:]) or not np.isfinite(found).all():
                raise RealCompoError(f"{path}: {tensor.name} has shape {found.shape} or values that are not finite")


def checkpoints_at_hand(folder: Path, manifest: Manifest) -> Checkpoints | None:
    """The checkpoints that the bundle was built from, if they are on this machine and unchanged."""
    pair = manifest.pair
    try:
        checkpoints = open_checkpoints(_pair_of(folder, manifest), download=False)
    except RealCompoError:
        return None
    found = weight_digests(checkpoints)
    recorded = [model.sha256 for model in (pair.text_to_image, pair.spatial, *pair.attached)]
    same = [found.of("text_to_image"), found.of("spatial"), *found.attached] == recorded
    return checkpoints if same else None


def _pair_of(folder: Path, manifest: Manifest) -> Pair:
    models, spatial = manifest.pair, manifest.spatial
    base, own, *attached = (model.place(folder) for model in (models.text_to_image, models.spatial, *models.attached))
    component = KINDS[spatial.kind].component
    controls = tuple(Control(kind, model, component) for kind, model in zip(spatial.controls, attached, strict=True))
    return Pair(models.name, base, own, "", spatial.kind, controls, fp16_files=manifest.precision != "fp32")


def _check_onnx(path: Path) -> None:
    try:
        onnx.checker.check_model(str(path))
    except Exception as error:  # protobuf and the checker raise kinds of their own
        raise RealCompoError(f"{path} is no valid ONNX graph: {str(error).strip().splitlines()[0]}") from error


def _open_session(path: Path, signature: Signature, scratch: Path | None = None) -> onnxruntime.InferenceSession:
    try:
        with runnable_on_cpu(path, scratch) as graph:
            session = onnxruntime.InferenceSession(graph, _session_options(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises kinds of its own
        raise RealCompoError(f"ONNX Runtime cannot load {path}: {error}") from error
    for kind, found, declared in (
        ("inputs", session.get_inputs(), signature.inputs),
        ("outputs", session.get_outputs(), signature.outputs),
    ):
        has, wants = [(t.name, tuple(t.shape)) for t in found], [(t.name, t.shape) for t in declared]
        if has != wants:
            raise RealCompoError(f"{path} has the {kind} {has} instead of {wants}")
    return session


def _session_options(path: Path) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    if stored_bytes(path) > OPTIMIZED_BYTES:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def _run_onnx(session: onnxruntime.InferenceSession, inputs: dict[str, torch.Tensor]) -> Outputs:
    names = [output.name for output in session.get_outputs()]
    values = session.run(names, {name: value.numpy() for name, value in inputs.items()})
    return dict(zip(names, values, strict=True))


@torch.no_grad()
def _run_torch(graph: nn.Module, inputs: dict[str, torch.Tensor]) -> list[np.ndarray]:
    outputs = graph(**inputs)
    return [output.numpy() for output in (outputs if isinstance(outputs, tuple) else (outputs,))]


def _double(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.double() if value.is_floating_point() else value for name, value in inputs.items()}


def _signature_of(engine: EngineSpec) -> Signature:
    return Signature(engine.inputs, engine.outputs)
