"""Where an engine's time goes, by the profiler of what runs it.

ONNX Runtime's on the CPU, and TensorRT's. ONNX Runtime on a GPU is left to NVIDIA's profilers, to which the runtime
names its stages and engines: ONNX Runtime's own would time launches there.
"""

import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from tokenizers import Tokenizer
from torch import Tensor

from benchmarks.latency.contenders import LAYOUT, Sampling, Target
from benchmarks.rehearsal import rehearse
from export.graphs.engine import Signature, example_inputs
from runtime.backends.base import ELEMENT_TYPES, output_shape
from runtime.backends.plans import import_flavour
from runtime.bundle.manifest import EngineSpec, read_manifest
from runtime.errors import RealCompoError
from runtime.words import FLAVOURS, Flavour, Role

SLOWEST = 10  # nodes that are told
RUNS = 5  # after one of warm-up


@dataclass(frozen=True)
class Share:
    """A kind of operator, or one node."""

    name: str
    milliseconds: float  # a call
    count: int  # of nodes


@dataclass(frozen=True)
class EngineProfile:
    role: Role
    backend: str
    rows: int
    milliseconds: float  # a call, with the profiler at work
    operators: tuple[Share, ...]  # slowest first; none from TensorRT, whose layers are fused
    nodes: tuple[Share, ...]  # the slowest
    calls: int = 1  # with so many rows, that an image takes


def profile_bundle(target: Target, sampling: Sampling, report: Callable[[str], None]) -> list[EngineProfile]:
    """Every call that an image takes, on every backend whose profiler is read here."""
    bundle, on_gpu = Path(target.bundle), target.device != "cpu"
    steps, scale = sampling.steps, sampling.guidance_scale
    calls = Counter(rehearse(bundle, regions=len(LAYOUT.regions), steps=steps, guidance_scale=scale).calls)
    profiles = []
    for backend in [backend for backend in target.backends if (backend in FLAVOURS) == on_gpu]:
        for call, count in calls.items():
            report(f"profiling {call.role} on {backend}")
            profiles.append(replace(profile_engine(bundle, call.role, backend, call.rows), calls=count))
    return profiles


def profile_engine(bundle: Path, role: Role, backend: str = "onnx", rows: int = 2) -> EngineProfile:
    """Run an engine on random inputs of `rows` rows under its backend's profiler.

    Raises:
        RealCompoError: not a bundle, or one without a plan for the backend.
    """
    manifest = read_manifest(bundle)
    engine = manifest.engines[role]
    vocabulary = Tokenizer.from_file(str(bundle / manifest.tokenizer.name)).get_vocab_size()
    inputs = example_inputs(Signature(engine.inputs, engine.outputs), rows, vocabulary)
    if backend == "onnx":
        return summarize_onnx(role, rows, _record_onnx(bundle / engine.for_onnx_runtime.name, inputs))
    if engine.plan is None or engine.plan.flavour != backend:
        raise RealCompoError(f"{bundle} has no {backend} plan of {role}; build it with --backend {backend}")
    layers, took = _record_tensorrt(bundle / engine.plan.file.name, engine, backend, inputs)
    return EngineProfile(role, backend, rows, took, (), _shares(layers, RUNS, dict.fromkeys(layers, 1))[:SLOWEST])


def summarize_onnx(role: Role, rows: int, events: Iterable[Mapping[str, Any]]) -> EngineProfile:
    """What ONNX Runtime's events (microseconds), those of the first run left out, say of a call."""
    listed = sorted(events, key=lambda event: event["ts"])
    runs = [event for event in listed if event["name"] == "model_run"][1:]
    kernels = [e for e in listed if e["name"].endswith("_kernel_time") and e["ts"] >= runs[0]["ts"]]
    operator: dict[str, str] = {}
    of_node: dict[str, float] = defaultdict(float)
    of_operator: dict[str, float] = defaultdict(float)
    for event in kernels:
        node, kind = event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]
        operator[node] = kind
        of_node[node] += event["dur"] / 1000
        of_operator[kind] += event["dur"] / 1000
    return EngineProfile(
        role,
        "onnx",
        rows,
        sum(event["dur"] for event in runs) / 1000 / len(runs),
        _shares(of_operator, len(runs), Counter(operator.values())),
        _shares(of_node, len(runs), dict.fromkeys(of_node, 1))[:SLOWEST],
    )


def _shares(milliseconds: Mapping[str, float], runs: int, counts: Mapping[str, int]) -> tuple[Share, ...]:
    """Slowest first."""
    shares = [Share(name, took / runs, counts[name]) for name, took in milliseconds.items()]
    return tuple(sorted(shares, key=lambda share: -share.milliseconds))


def _record_onnx(graph: Path, inputs: Mapping[str, Tensor]) -> Sequence[Mapping[str, Any]]:
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    feeds = {name: value.numpy() for name, value in inputs.items()}
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        for _ in range(1 + RUNS):
            session.run(None, feeds)
        return json.loads(Path(session.end_profiling()).read_text())


def _record_tensorrt(
    plan: Path, engine: EngineSpec, flavour: Flavour, inputs: Mapping[str, Tensor]
) -> tuple[dict[str, float], float]:
    """Milliseconds of each layer over all runs, and of a call."""
    trt = import_flavour(flavour)
    layers: dict[str, float] = defaultdict(float)

    class LayerTimes(trt.IProfiler):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            layers[layer_name] += ms

    log = trt.Logger(trt.Logger.ERROR)
    runtime = trt.Runtime(log)
    loaded = runtime.deserialize_cuda_engine(plan.read_bytes())
    if loaded is None:
        raise RealCompoError(f"{plan} does not load on this GPU; build it here with --backend {flavour}")
    context = loaded.create_execution_context()
    buffers = _bind(context, engine, inputs)
    stream = torch.cuda.current_stream()
    context.execute_async_v3(stream.cuda_stream)  # warm-up, unwatched
    stream.synchronize()
    context.profiler = LayerTimes()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(RUNS):
        context.execute_async_v3(stream.cuda_stream)  # waits, because it is being profiled
    end.record()
    end.synchronize()
    del buffers  # not before all has run
    return layers, start.elapsed_time(end) / RUNS


def _bind(context: Any, engine: EngineSpec, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """Give a context its inputs and room for its outputs, on the GPU; they live as long as what is returned."""
    rows = len(next(iter(inputs.values())))
    tensors = {name: value.cuda() for name, value in inputs.items()}
    for name, tensor in tensors.items():
        context.set_input_shape(name, tuple(tensor.shape))
    for output in engine.outputs:
        shape, dtype = output_shape(output, {"batch": rows}), ELEMENT_TYPES[output.dtype].torch
        tensors[output.name] = torch.empty(shape, dtype=dtype, device="cuda")
    for name, tensor in tensors.items():
        context.set_tensor_address(name, tensor.data_ptr())
    return list(tensors.values())
