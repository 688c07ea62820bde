"""The process that builds one plan, through Polygraphy: `python -m export.plans.plan_worker`, started by
`export.plans.to_engine`.

TensorRT's builder is C++ that for tens of seconds heeds no Ctrl-C, and whose failures may end the process: this one,
then, and not the build. It takes a `PlanRequest` as JSON on stdin, writes the plan to a file and events to stdout, one
JSON object a line; TensorRT's own messages go to stderr. It imports neither `runtime` nor torch, to start at once.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.plans.memory import WAYS_OUT, available_memory, gigabytes

Send = Callable[..., None]
Tensor = tuple[str, str, list[int]]  # name, dtype, shape with -1 for the batch

# Peak of the host's memory, measured with TensorRT-RTX 1.7 on convolutions, on matrix products (0.3 GB of weights each)
# and on the demo pair's UNets: 3.2 times the weights and 150 KB a layer beside 0.11 GB.
_BYTES_OF_BUILDER = 150_000_000
_BYTES_PER_LAYER = 160_000
_COPIES_OF_WEIGHTS = 3.3
_SECONDS_BETWEEN_EVENTS = 0.1
_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT64": "int64",
    "INT32": "int32",
    "BOOL": "bool",
}


@dataclass(frozen=True)
class PlanRequest:
    """All that a plan is built from and with; JSON has no tuples, so lists stand for them."""

    onnx: str
    plan: str
    module: str  # "tensorrt_rtx" or "tensorrt"
    compute_capabilities: list[str]  # of TensorRT-RTX plans
    inputs: list[Tensor]
    outputs: list[Tensor]
    profile: dict[str, list[list[int]]]  # input: min, opt, max shapes
    flags: dict[str, bool | int]
    timing_cache: str | None
    weight_bytes: int

    @property
    def rtx(self) -> bool:
        return self.module == "tensorrt_rtx"


class Refused(Exception):
    """The plan is not built, for a reason that is told in one line."""


def main() -> None:
    events = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # C++ and Polygraphy print to stdout too

    def send(**event: object) -> None:
        print(json.dumps(event), file=events, flush=True)

    request = sys.stdin.read()
    if not request:  # whoever asks was stopped before asking
        return
    try:
        build(PlanRequest(**json.loads(request)), send)
    except Refused as error:
        send(refused=str(error))
    except OSError as error:
        send(disk=[error.errno, error.strerror])


def build(request: PlanRequest, send: Send) -> None:
    """Parse the graph, check it against the request and the memory, build the plan and write it."""
    from polygraphy import config as polygraphy_config

    polygraphy_config.USE_TENSORRT_RTX = request.rtx  # read when the next line imports
    from polygraphy.backend.trt import engine_bytes_from_network, network_from_onnx_path
    from polygraphy.exception import PolygraphyException
    from polygraphy.logger import G_LOGGER

    trt = importlib.import_module(request.module)
    try:
        with G_LOGGER.verbosity(G_LOGGER.ERROR):
            parsed = network_from_onnx_path(request.onnx, strongly_typed=request.flags["strongly_typed"])
            check_tensors(parsed[1], request)
            check_memory(parsed[1].num_layers, request.weight_bytes, available_memory(), send)
            config = make_config(request, trt, progress_monitor(trt, send))
            plan = engine_bytes_from_network(parsed, config=config, save_timing_cache=request.timing_cache)
    except PolygraphyException as error:
        raise Refused(f"TensorRT cannot build it, for the reason above: {error}") from error
    Path(request.plan).write_bytes(memoryview(plan))


def check_tensors(network: Any, request: PlanRequest) -> None:
    """Raise Refused if the network's inputs or outputs are not those of the bundle's manifest to be."""
    found_inputs = [network.get_input(i) for i in range(network.num_inputs)]
    found_outputs = [network.get_output(i) for i in range(network.num_outputs)]
    for kind, found, wants in (
        ("inputs", found_inputs, request.inputs),
        ("outputs", found_outputs, request.outputs),
    ):
        has = [[tensor.name, _DTYPES.get(tensor.dtype.name), list(tensor.shape)] for tensor in found]
        if has != [list(tensor) for tensor in wants]:
            raise Refused(f"TensorRT reads the {kind} {has}, the manifest has {wants}")


def check_memory(layers: int, weight_bytes: int, available: int | None, send: Send) -> None:
    """Tell how much memory the build takes, and raise Refused if there is less."""
    needed = int(_BYTES_OF_BUILDER + layers * _BYTES_PER_LAYER + weight_bytes * _COPIES_OF_WEIGHTS)
    send(memory=needed)
    if available is not None and available < needed:
        raise Refused(
            f"TensorRT takes about {gigabytes(needed)} of memory for it, {gigabytes(available)} are available; "
            f"{WAYS_OUT}"
        )


def make_config(request: PlanRequest, trt: Any, monitor: Any) -> Callable[..., Any]:
    """What makes the builder's config from (builder, network)."""
    from polygraphy.backend.tensorrt_rtx import CreateConfigRTX
    from polygraphy.backend.trt import CreateConfig, PostprocessConfig, Profile

    profile, flags = Profile(), request.flags
    for name, (smallest, usual, largest) in request.profile.items():
        profile.add(name, min=smallest, opt=usual, max=largest)
    options = {
        "profiles": [profile],
        "refittable": flags.get("refit"),
        "strip_plan": flags.get("strip_weights"),
        "version_compatible": flags.get("version_compatible"),
        "builder_optimization_level": flags.get("optimization_level"),
        "load_timing_cache": request.timing_cache,
        "progress_monitor": monitor,
    }
    if request.rtx:
        targets = [tuple(map(int, capability.split("."))) for capability in request.compute_capabilities]
        create = CreateConfigRTX(**options, compute_capabilities=targets)
    else:
        create = CreateConfig(**options)
    return PostprocessConfig(create, lambda builder, network, config: config.clear_flag(trt.BuilderFlag.TF32))


def progress_monitor(trt: Any, send: Send) -> Any:
    """An IProgressMonitor that sends the phase at work and its steps, not too often."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # which module it is from is known only now
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}
            self._next = 0.0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._steps[phase_name] = num_steps

        def phase_finish(self, phase_name: str) -> None:
            pass

        def step_complete(self, phase_name: str, step: int) -> bool:
            """Go on? Not when nobody listens any more."""
            if time.monotonic() < self._next:
                return True
            self._next = time.monotonic() + _SECONDS_BETWEEN_EVENTS
            try:
                send(phase=phase_name, step=step + 1, steps=self._steps[phase_name])
            except BrokenPipeError:
                return False
            return True

    return Monitor()


if __name__ == "__main__":
    main()
