"""The least time that a bundle's work takes on a device: Williams et al., "Roofline", CACM 2009."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from tokenizers import Tokenizer
from torch import Tensor

from benchmarks.rehearsal import Call, Rehearsal, rehearse
from benchmarks.roofline.costs import Cost, cost_of
from benchmarks.roofline.gpus import ELEMENT_BYTES, Ceilings, best_seconds
from export.graphs.engine import Signature, example_inputs
from runtime.backends import Engines, load_engines
from runtime.bundle.manifest import Manifest, read_manifest
from runtime.denoising.capture import TorchGraph
from runtime.errors import RealCompoError
from runtime.runner import Runner
from runtime.stats import wait_for_device
from runtime.words import MODELS, Precision, Role

CEILING: dict[Precision, str] = {"fp32": "fp32", "fp16": "fp16", "bf16": "fp16"}  # fp32 means fp32: TF32 is off

Bound = Literal["compute", "memory"]


class Floor(NamedTuple):
    seconds: float
    bound: Bound


@dataclass(frozen=True)
class EngineFloors:
    """One engine's call, and the least it takes in each precision."""

    role: Role
    rows: int
    cost: Cost
    floors: dict[str, Floor]


@dataclass(frozen=True)
class Measured:
    """One engine's call as it ran, and its rate as a share of what the roofline allows at its intensity."""

    role: Role
    rows: int
    seconds: float
    tflops: float
    share: float


@dataclass(frozen=True)
class Roofline:
    """Floors are in seconds. Engines run one after another, each at the ceiling that it meets first.

    Args:
        engines: the calls of each engine, by their rows.
        stages: of a step with the spatial model alone, one that updates the coefficients, and a whole run: the floor
            in each precision. A run without such steps leaves them out.
        weights: of all engines together, in elements.
        device: of this machine, that the engines ran on; None where they did not.
        precision: theirs, as the ceilings call it.
        measured: what they took there.
    """

    ceilings: Ceilings
    engines: list[EngineFloors]
    stages: dict[str, dict[str, float]]
    weights: int
    device: str | None
    precision: str
    measured: list[Measured]

    def as_json(self) -> dict[str, Any]:
        plain = asdict(self)
        for engine in plain["engines"]:
            engine["floors"] = {name: floor._asdict() for name, floor in engine["floors"].items()}
        return plain


def floor(cost: Cost, precision: str, ceilings: Ceilings) -> Floor:
    """The least time of a call: that of its operations or of its memory traffic, whichever is longer."""
    compute = cost.flops / (ceilings.tflops[precision] * 1e12)
    memory = cost.bytes(ELEMENT_BYTES[precision]) / (ceilings.bandwidth * 1e9)
    return Floor(compute, "compute") if compute >= memory else Floor(memory, "memory")


def analyse(
    folder: Path, ceilings: Ceilings, images: int = 1, regions: int = 2, device: str | None = None, **options: Any
) -> Roofline:
    """The roofline of a bundle's work; with a device of this machine, beside what its engines reach there.

    Args:
        images, regions, options: what is asked of the bundle; see `rehearse`.
        device: `cpu` or `cuda`, whose ceilings these are.

    Raises:
        RealCompoError: not a bundle, one in half precision that the CPU would compute in fp32, or an option that the
            pipeline refuses.
    """
    manifest = read_manifest(folder)
    if device == "cpu" and manifest.precision != "fp32":
        raise RealCompoError(f"a CPU runs fp32 bundles; {folder} is {manifest.precision}: name a GPU with --gpu")
    run = rehearse(folder, images, regions, **options)
    alone = [rehearse(folder, images, regions, **options | {"gradient": model}).steps[0].calls for model in MODELS]
    engines = {call: _floors(folder, manifest, call, ceilings) for call in dict.fromkeys(run.calls)}
    stages = {
        name: {p: sum(engines[call].floors[p].seconds for call in calls) for p in ceilings.tflops}
        for name, calls in _stages(run, alone).items()
    }
    rows = list(engines.values())
    precision = CEILING[manifest.precision]
    measured = _measure(folder, manifest, rows, device, precision) if device else []
    return Roofline(ceilings, rows, stages, _weights(rows), device, precision, measured)


def _weights(engines: Sequence[EngineFloors]) -> int:
    """Of each engine once, however many kinds of calls it has."""
    return sum({engine.role: engine.cost.weights for engine in engines}.values())


def _floors(folder: Path, manifest: Manifest, call: Call, ceilings: Ceilings) -> EngineFloors:
    cost = cost_of(folder / manifest.engines[call.role].graph[0].name, call.rows)
    return EngineFloors(*call, cost, {precision: floor(cost, precision, ceilings) for precision in ceilings.tflops})


def _stages(run: Rehearsal, alone: Sequence[list[Call]]) -> dict[str, list[Call]]:
    """Calls by stage; `alone` are the steps of either model alone."""
    steps = {
        "step of one model": (step for step in run.steps if step.calls in alone),
        "step that updates": (step for step in run.steps if step.updates),
    }
    firsts = {name: next(found, None) for name, found in steps.items()}
    return {name: step.calls for name, step in firsts.items() if step} | {"image": run.calls}


def _measure(
    folder: Path, manifest: Manifest, rows: Sequence[EngineFloors], device: str, precision: str
) -> list[Measured]:
    """Run every call on this machine: plans where they run here, else the graphs."""
    engines = load_engines(folder, manifest, "auto", device, second_stream=False)
    vocabulary = Tokenizer.from_file(str(folder / manifest.tokenizer.name)).get_vocab_size()
    found = []
    with torch.no_grad(), engines.streams.own():
        for engine in rows:
            runner = engines.runners[engine.role]
            inputs = example_inputs(Signature(runner.spec.inputs, runner.spec.outputs), engine.rows, vocabulary)
            seconds = best_seconds(_call(engines, runner, inputs))
            share = engine.floors[precision].seconds / seconds
            found.append(Measured(engine.role, engine.rows, seconds, engine.cost.flops / seconds / 1e12, share))
    return found


def _call(engines: Engines, runner: Runner, inputs: Mapping[str, Tensor]) -> Callable[[], None]:
    """An engine's call, until its device is idle; in a CUDA graph where that can be, as in a step."""
    launch: Callable[[], object] = partial(runner, **{k: tensor.to(engines.device) for k, tensor in inputs.items()})
    if engines.capturable and runner.spec.model:  # what runs once an image may wait for the host
        launch()  # warms up
        graph = TorchGraph()
        graph.capture(launch)
        launch = graph.replay

    def call() -> None:
        launch()
        wait_for_device()

    return call
