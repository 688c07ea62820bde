"""8-bit UNets: Q/DQ nodes around linear layers and convolutions, placed by NVIDIA Model Optimizer (its ONNX path).

It is calibrated on what both models see while the bundle itself draws. Attention maps and gradients are left alone.
"""

import contextlib
import hashlib
import importlib.util
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from export.graphs.engine import Signature
from export.onnx.derive import check_apart, copy_engine, publish_derived
from export.plans.plan_options import BuilderOptions, plan_options
from export.plans.to_engine import build_plan
from export.provenance import absolute
from export.publish import name_plan, store_graph
from export.staging import disk_errors, scratch_folder
from runtime import Layout, RealCompo
from runtime.backends import load_engines
from runtime.bundle.deviation import relative_error
from runtime.bundle.manifest import (
    EngineSpec,
    Manifest,
    PlanSpec,
    check_files,
    read_manifest,
)
from runtime.errors import RealCompoError
from runtime.runner import Runner
from runtime.text.tokens import open_tokenizers
from runtime.words import MODELS, Model, Quantization, Role

Arrays = dict[str, np.ndarray]
Report = Callable[[str], None]

STEPS = 20  # of the runs that calibrate
TOLERANCE = 0.25  # relative error of an 8-bit engine against the one it is made from
CALIBRATION_SEED, HELD_OUT_SEED = 0, 1
CALIBRATION_ROWS = 64
_PRODUCTS = ("Conv", "Gemm", "MatMul")
# The first and the last convolution and the timestep's layers: little work, and a tenfold error (docs/quantisation.md)
_KEPT = re.compile(r"conv_in\.|conv_out\.|time_emb")


@dataclass(frozen=True)
class Seen:
    """What an engine was given over a run, and what it gave: arrays of (rows, ...)."""

    inputs: Arrays
    outputs: Arrays


def quantize_bundle(
    bundle: Path,
    out: Path,
    mode: Quantization,
    layouts: Sequence[Path],
    steps: int = STEPS,
    report: Report = lambda stage: None,
) -> Manifest:
    """Write to `out` the fp32 bundle `bundle` with 8-bit UNets; the other engines are the same files.

    Every layout (with its prompt) is drawn twice, from two seeds: the first run calibrates, the second measures the
    errors against the engines of `bundle`. Plans are built anew where the bundle has them.

    Raises:
        RealCompoError: Model Optimizer is not installed, the bundle is not fp32, a layout has no prompt, or the errors
            are larger than rounding to 8 bits explains.
    """
    manifest = read_manifest(bundle)
    _check(bundle, out, manifest)
    check_files(bundle, manifest)
    command = _command(bundle, mode, layouts, steps)
    with scratch_folder(out, command) as scratch, disk_errors(out):
        report("drawing for calibration")
        calibration = record(bundle, manifest, layouts, steps, CALIBRATION_SEED)
        report("drawing for the errors")
        held_out = record(bundle, manifest, layouts, steps, HELD_OUT_SEED)
        engines: dict[Role, EngineSpec] = {}
        for role, spec in manifest.engines.items():
            report(f"{role}: {'quantizing' if role in calibration else 'copying'}")
            engines[role] = (
                _quantize_engine(bundle, spec, mode, calibration[role], held_out[role], scratch)
                if role in calibration
                else copy_engine(bundle, spec, scratch)
            )
        return publish_derived(bundle, manifest.model_copy(update={"command": command}), engines, scratch, out)


def record(bundle: Path, manifest: Manifest, layouts: Sequence[Path], steps: int, seed: int) -> dict[Role, Seen]:
    """Draw the layouts and keep what goes into both UNets and comes out of them."""
    engines = load_engines(bundle, manifest, "onnx", "cpu", second_stream=False)
    recorders: dict[Role, _Recorder] = {model: _Recorder(engines.runners[model]) for model in _unets(manifest)}
    engines.runners.update(recorders)
    pipe = RealCompo(manifest, open_tokenizers(bundle, manifest), engines)
    for path in layouts:
        layout = Layout.from_file(path)
        if layout.prompt is None:
            raise RealCompoError(f"{path} has no prompt, which calibration draws: add one to it")
        pipe(layout.prompt, layout=layout, steps=steps, sampler="dpm++2m", gradient="none", switch_step=0, seed=seed)
    return {model: recorders[model].seen() for model in _unets(manifest)}


def _unets(manifest: Manifest) -> list[Model]:
    """The models that have an engine of their own."""
    return [model for model in MODELS if model in manifest.engines]


class _Recorder:
    """A runner that remembers."""

    def __init__(self, runner: Runner) -> None:
        self.spec, self.most_rows = runner.spec, runner.most_rows
        self._runner = runner
        self._inputs: list[dict[str, torch.Tensor]] = []
        self._outputs: list[dict[str, torch.Tensor]] = []

    def __call__(self, **tensors: torch.Tensor) -> dict[str, torch.Tensor]:
        outputs = self._runner(**tensors)
        self._inputs.append({name: tensor.clone() for name, tensor in tensors.items()})
        self._outputs.append({name: tensor.clone() for name, tensor in outputs.items()})
        return outputs

    def seen(self) -> Seen:
        return Seen(_stack(self._inputs), _stack(self._outputs))


def _stack(calls: Sequence[dict[str, torch.Tensor]]) -> Arrays:
    return {name: torch.cat([call[name] for call in calls]).numpy() for name in calls[0]}


def _check(bundle: Path, out: Path, manifest: Manifest) -> None:
    if importlib.util.find_spec("modelopt") is None:
        raise RealCompoError("quantize needs NVIDIA Model Optimizer: pip install 'realcompo[quantize]'")
    if manifest.precision != "fp32" or any(manifest.engines[model].quantization for model in _unets(manifest)):
        raise RealCompoError(f"{bundle} is not a plain fp32 bundle: build one with python -m export build")
    check_apart(bundle, out)


def _command(bundle: Path, mode: Quantization, layouts: Sequence[Path], steps: int) -> tuple[str, ...]:
    """What follows `python -m export` to quantize it so again."""
    words = [word for layout in layouts for word in ("--layout", str(absolute(layout)))]
    words += ["--steps", str(steps)] if steps != STEPS else []
    return "quantize", str(absolute(bundle)), "--mode", mode, *words


def _quantize_engine(
    bundle: Path, spec: EngineSpec, mode: Quantization, calibration: Seen, held_out: Seen, scratch: Path
) -> EngineSpec:
    key = _key(spec, mode, calibration)
    path = scratch / f"{spec.role}.onnx"
    with TemporaryDirectory(dir=scratch) as work:
        graph = _copy_graph(bundle, spec, Path(work))
        _insert_qdq(graph, mode, _evenly(calibration.inputs, CALIBRATION_ROWS), path)
    errors = _errors(path, held_out)
    _check_errors(spec.role, mode, errors)
    data = path.with_name(f"{path.name}_data")  # Model Optimizer's name for what does not fit
    files = store_graph(spec.role, [path, data] if data.is_file() else [path])
    plan = _rebuild_plan(spec, spec.plan, [scratch / file.name for file in files]) if spec.plan else None
    changed = {"key": key, "graph": files, "plan": plan, "quantization": mode, "verification": errors}
    return spec.model_copy(update={**changed, "golden": None, "fused": None})


def _key(spec: EngineSpec, mode: Quantization, calibration: Seen) -> str:
    digest = hashlib.sha256(json.dumps([spec.key, mode, version("nvidia-modelopt")]).encode())
    for name in sorted(calibration.inputs):
        digest.update(calibration.inputs[name].tobytes())
    return digest.hexdigest()


def _copy_graph(bundle: Path, spec: EngineSpec, folder: Path) -> Path:
    """Model Optimizer writes inferred shapes into the file that it reads: it gets its own."""
    for file in spec.graph:
        shutil.copy(bundle / file.name, folder / file.name)
    return folder / spec.graph[0].name


def _insert_qdq(graph: Path, mode: Quantization, calibration: Arrays, path: Path) -> None:
    from modelopt.onnx.quantization import quantize

    with _quiet():
        quantize(
            str(graph),
            quantize_mode=mode,
            calibration_data=calibration,
            calibration_method="max",
            calibration_eps=["cpu"],
            op_types_to_quantize=list(_PRODUCTS),
            nodes_to_quantize=[
                f"^{re.escape(name)}$" for name in quantizable(onnx.load(graph, load_external_data=False))
            ],
            high_precision_dtype="fp32",
            output_path=str(path),
            log_level="ERROR",
        )


def quantizable(model: onnx.ModelProto) -> list[str]:
    """The names of the products with a weight, but for the first, the last and the timestep's layers, and for the
    queries and keys that the attention maps are made of."""
    weights = {tensor.name for tensor in model.graph.initializer}
    producers = {name: node for node in model.graph.node for name in node.output}
    products = {node.name: weight for node in model.graph.node if (weight := _weight(node, weights, producers))}
    kept = {node.name for node in _first_products("attention_maps", producers, products)}
    return [name for name, weight in products.items() if name not in kept and not _KEPT.search(weight)]


def _weight(node: onnx.NodeProto, weights: set[str], producers: dict[str, onnx.NodeProto]) -> str | None:
    """The stored weight of a product, maybe transposed on the way."""
    if node.op_type not in _PRODUCTS:
        return None
    name = node.input[1]
    while name in producers and producers[name].op_type == "Transpose":
        name = producers[name].input[0]
    return name if name in weights else None


def _first_products(
    output: str, producers: dict[str, onnx.NodeProto], products: dict[str, str]
) -> Iterator[onnx.NodeProto]:
    """The products with a weight that are met first on every way back from an output."""
    waiting, seen = [output], {output}
    while waiting:
        node = producers.get(waiting.pop())
        if node is None:
            continue
        if node.name in products:
            yield node
            continue
        waiting += [name for name in node.input if name not in seen]
        seen.update(node.input)


def _evenly(arrays: Arrays, rows: int) -> Arrays:
    """At most so many rows, from the whole run."""
    count = len(next(iter(arrays.values())))
    chosen = np.linspace(0, count - 1, min(rows, count)).round().astype(int)
    return {name: array[chosen] for name, array in arrays.items()}


def _errors(path: Path, seen: Seen) -> dict[str, float]:
    """Per output, max |8-bit - fp32| / max |fp32|."""
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises kinds of its own
        raise RealCompoError(f"ONNX Runtime cannot load the quantized graph: {' '.join(str(error).split())}") from error
    found: Sequence[Any] = session.run(list(seen.outputs), seen.inputs)
    return {
        name: relative_error(output, target) for output, (name, target) in zip(found, seen.outputs.items(), strict=True)
    }


def _check_errors(role: Role, mode: Quantization, errors: dict[str, float]) -> None:
    for output, error in errors.items():
        if not error <= TOLERANCE:  # NaN fails too
            raise RealCompoError(
                f"{role}: {output} differs from fp32 by {error:.1e}; at most {TOLERANCE} is accepted in {mode}: "
                "calibrate with layouts that are more like those to be drawn"
            )


def _rebuild_plan(spec: EngineSpec, before: PlanSpec, files: list[Path]) -> PlanSpec:
    """The plan of a quantized graph, for the batches and GPUs that the plan before is for and with its flags."""
    smallest, usual, largest = (shape[0] for shape in before.profile["latents"])
    rows = smallest, usual, largest
    capabilities = before.compute_capabilities if before.flavour == "tensorrt-rtx" else ()
    options = plan_options(before.flavour, capabilities, rows, BuilderOptions.of_flags(before.flags))
    path = files[0].with_name(f"{spec.role}.engine")
    return name_plan(
        spec.role, build_plan(files, Signature(spec.inputs, spec.outputs), options, rows, path), path.parent
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence Model Optimizer's progress; its errors are raised."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
