"""The least time that a bundle's work takes on a device: Williams et al., "Roofline", CACM 2009."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tokenizers import Tokenizer

from benchmarks.roofline.costs import Cost, cost_of
from benchmarks.roofline.gpus import ELEMENT_BYTES, Ceilings, best_seconds
from export.graphs.roles import Signature, example_inputs
from runtime.backends import load_engines
from runtime.bundle.manifest import Manifest, Role, read_manifest
from runtime.denoising.models import GRADIENT_ROLES
from runtime.errors import RealCompoError
from runtime.options import Options

Bound = Literal["compute", "memory"]


class Call(NamedTuple):
    role: Role
    rows: int


@dataclass(frozen=True)
class Work:
    """What is asked of a bundle: a run's options, for `images` of one prompt whose layout has `regions`."""

    options: Options
    images: int = 1
    regions: int = 2
    shared_unet: bool = False  # of the bundle
    controlled: bool = False  # whether ControlNets make the bundle's spatial model

    @property
    def _guided_rows(self) -> int:
        return self.images * (2 if self.options.guided else 1)

    def step(self, i: int) -> list[Call]:
        """The calls of row i of the sampler's table."""
        kind = self.options.kind(i)
        rows: dict[Role, int]
        if self.shared_unet:
            rows = {"spatial": len(kind.models) * self._guided_rows}
            if self.controlled and "spatial" in kind.models:
                rows["controlnet"] = self._guided_rows
            if kind.gradient_from:
                rows["spatial_gradient"] = len(kind.gradient_from) * self.images
        else:
            rows = dict.fromkeys(kind.models, self._guided_rows)
            rows |= {GRADIENT_ROLES[model]: self.images for model in kind.gradient_from}
        return [Call(role, count) for role, count in rows.items()]

    def once(self) -> list[Call]:
        """The calls before and after the steps. Equal texts are encoded once: a prompt, its negative, the phrases."""
        grounded = self.options.needs_layout and not self.controlled
        phrases = self.regions if grounded else 0
        calls = [Call("text_encoder", 1 + self.options.guided + phrases), Call("vae_decoder", self.images)]
        return [*calls, Call("grounding", self._guided_rows)] if grounded else calls

    def image(self) -> list[Call]:
        """Every call of a run."""
        return [*self.once(), *(call for i in range(self.options.rows) for call in self.step(i))]


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
        engines: each engine's call of the costliest step, or its only one.
        stages: of a step with the spatial model alone, one that updates the coefficients, and a whole run: the floor
            in each precision. A run without such steps leaves them out.
        weights: of all engines together, in elements.
        measured: on this machine's CPU; empty for a GPU, whose ceilings are its datasheet's.
    """

    ceilings: Ceilings
    engines: list[EngineFloors]
    stages: dict[str, dict[str, float]]
    weights: int
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


def analyse(folder: Path, ceilings: Ceilings, work: Work) -> Roofline:
    """The roofline of a bundle's work; with the CPU's ceilings, beside what its engines reach there.

    Raises:
        RealCompoError: not a bundle, or one in half precision that the CPU would compute in fp32.
    """
    manifest = read_manifest(folder)
    if ceilings.name == "cpu" and manifest.precision != "fp32":
        raise RealCompoError(f"--gpu cpu measures fp32 bundles; {folder} is {manifest.precision}: name a GPU instead")
    engines = {call: _floors(folder, manifest, call, ceilings) for call in dict.fromkeys(work.image())}
    stages = {
        name: {p: sum(engines[call].floors[p].seconds for call in calls) for p in ceilings.tflops}
        for name, calls in _stages(work).items()
    }
    rows = list(engines.values())
    measured = _measure(folder, manifest, rows) if ceilings.name == "cpu" else []
    return Roofline(ceilings, rows, stages, sum(row.cost.weights for row in rows), measured)


def _floors(folder: Path, manifest: Manifest, call: Call, ceilings: Ceilings) -> EngineFloors:
    cost = cost_of(folder / manifest.engines[call.role].graph[0].name, call.rows)
    return EngineFloors(*call, cost, {precision: floor(cost, precision, ceilings) for precision in ceilings.tflops})


def _stages(work: Work) -> dict[str, list[Call]]:
    kinds = [work.options.kind(i) for i in range(work.options.rows)]
    early = [work.step(i) for i, kind in enumerate(kinds) if len(kind.models) == 1]
    updating = [work.step(i) for i, kind in enumerate(kinds) if kind.gradient]
    stages = {"step of one model": early[:1], "step that updates": updating[:1]}
    return {name: steps[0] for name, steps in stages.items() if steps} | {"image": work.image()}


def _measure(folder: Path, manifest: Manifest, engines: Sequence[EngineFloors]) -> list[Measured]:
    """Run every call on ONNX Runtime's CPU provider."""
    runners = load_engines(folder, manifest, "onnx", "cpu", second_stream=False).runners
    vocabulary = Tokenizer.from_file(str(folder / manifest.tokenizer.name)).get_vocab_size()
    found = []
    for engine in engines:
        runner = runners[engine.role]
        inputs = example_inputs(Signature(runner.spec.inputs, runner.spec.outputs), engine.rows, vocabulary)
        seconds = best_seconds(partial(runner, **inputs))
        share = engine.floors["fp32"].seconds / seconds
        found.append(Measured(engine.role, engine.rows, seconds, engine.cost.flops / seconds / 1e12, share))
    return found
