"""Does each engine of a bundle compute on this machine what PyTorch computed when the bundle was built?"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from runtime.backends import Engines, load_engines
from runtime.bundle.golden import Golden, read_golden
from runtime.bundle.limits import check_limit
from runtime.bundle.manifest import EngineSpec, Manifest, check_files, how_to_rebuild, read_manifest
from runtime.denoising.capture import Graph, TorchGraph
from runtime.denoising.models import GRADIENT_ROLES, PREDICTION_ROLES
from runtime.errors import RealCompoError
from runtime.runner import Runner
from runtime.words import Role

Outputs = Mapping[str, Tensor]
TOGETHER = tuple(tuple(roles.values()) for roles in (PREDICTION_ROLES, GRADIENT_ROLES))  # that may run at once


@dataclass(frozen=True)
class Way:
    """How engines are called."""

    name: str
    captured: bool = False  # in a CUDA graph
    beside: bool = False  # both models at once, on a second stream or thread


WAYS = (
    Way("one by one"),
    Way("side by side", beside=True),
    Way("CUDA graph", captured=True),
    Way("side by side in a CUDA graph", captured=True, beside=True),
)


@dataclass(frozen=True)
class Finding:
    """The largest error of an engine's output over batches of several sizes."""

    role: Role
    way: str
    output: str
    batches: tuple[int, ...]  # their rows
    worst: int  # rows of the batch with the largest error
    error: float  # relative
    limit: float

    @property
    def passed(self) -> bool:
        return self.error <= self.limit


@dataclass(frozen=True)
class Skipped:
    """What was not checked."""

    what: str
    why: str


def check_bundle(
    folder: Path,
    backend: str = "auto",
    device: str = "auto",
    largest: int | None = None,
    make_graph: Callable[[], Graph] = TorchGraph,
) -> Iterator[Finding | Skipped]:
    """Run every engine on its golden values, in every way that this machine has.

    Args:
        largest: rows of the largest batch; that of the plans' profiles, or of the build, if not given.

    Raises:
        RealCompoError: not a bundle, a damaged one, one without golden values, or one that does not load or run here.
    """
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    golden = {role: read_golden(folder, spec) for role, spec in manifest.engines.items() if spec.golden}
    if not golden:
        raise RealCompoError(
            f"{folder} has no golden values: it was built before there were any. {how_to_rebuild(folder, manifest)}"
        )
    yield from (Skipped(role, _why_none(spec)) for role, spec in manifest.engines.items() if role not in golden)
    engines = load_engines(folder, manifest, backend, device, second_stream=False)
    yield from check_engines(engines, manifest, golden, WAYS[::2], largest, make_graph)
    if engines.capturable:  # on a GPU there is a second stream only if it is loaded for; a CPU has a thread, or none
        engines = load_engines(folder, manifest, backend, device, second_stream=True)
    yield from check_engines(engines, manifest, golden, WAYS[1::2], largest, make_graph)


def check_engines(
    engines: Engines,
    manifest: Manifest,
    golden: Mapping[Role, Golden],
    ways: Sequence[Way],
    largest: int | None,
    make_graph: Callable[[], Graph],
) -> Iterator[Finding | Skipped]:
    """Run those engines that have golden values, in these ways."""
    for way in ways:
        groups = _groups(manifest, golden, way)
        if why := _why_not(engines, way, groups):
            yield Skipped(way.name, why)
            continue
        for roles in groups:
            yield from _check_group(engines, manifest, golden, roles, way, largest, make_graph)


def _why_none(spec: EngineSpec) -> str:
    if spec.quantization:
        return f"no golden values: it is in {spec.quantization}, whose errors were measured against the engine before"
    if spec.verified_size:
        return "no golden values: it was too large for PyTorch and was verified by a twin when it was built"
    return "no golden values: it was built before there were any"


def _why_not(engines: Engines, way: Way, groups: Sequence[Sequence[Role]]) -> str | None:
    if way.captured and not engines.capturable:
        return "CUDA graphs take a GPU, and plans or ONNX Runtime's CUDA provider"
    if way.beside and not engines.streams.has_second:
        return "there is no second stream or thread: it takes a GPU, or 2 CPU threads (OMP_NUM_THREADS)"
    return None if groups else "no two engines work at once: both models have one UNet"


def _groups(manifest: Manifest, golden: Mapping[Role, Golden], way: Way) -> list[tuple[Role, ...]]:
    """Engines that are called together. Graphs hold steps: what runs once an image may wait for the host."""
    if not way.beside:
        engines = manifest.engines.items()
        return [(role,) for role, spec in engines if role in golden and (spec.model or not way.captured)]
    return [roles for roles in TOGETHER if all(role in golden for role in roles)]


def _check_group(
    engines: Engines,
    manifest: Manifest,
    golden: Mapping[Role, Golden],
    roles: Sequence[Role],
    way: Way,
    largest: int | None,
    make_graph: Callable[[], Graph],
) -> Iterator[Finding]:
    specs = [manifest.engines[role] for role in roles]
    batches = _batches(largest or min(_most_rows(spec, manifest) for spec in specs))
    errors: dict[tuple[Role, str], dict[int, float]] = {}
    with torch.no_grad(), engines.streams.own():
        for rows in batches:
            given = [_on(engines.device, golden[role].batch(rows)) for role in roles]
            runners = [engines.runners[role] for role in roles]
            call = partial(_captured, make_graph=make_graph) if way.captured else _called
            try:
                outputs = call(engines, runners, given)
            except RuntimeError as error:  # of a library
                why = " ".join(str(error).split())
                raise RealCompoError(f"{' and '.join(roles)} fails, {way.name}, a batch of {rows}: {why}") from error
            for role, found in zip(roles, outputs, strict=True):
                for output, off in golden[role].errors(found).items():
                    errors.setdefault((role, output), {})[rows] = off
    for (role, output), by_rows in errors.items():
        worst = max(by_rows, key=lambda rows: by_rows[rows])
        limit = check_limit(manifest.engines[role], output, engines.kernels)
        yield Finding(role, way.name, output, batches, worst, by_rows[worst], limit)


def _called(engines: Engines, runners: Sequence[Runner], given: Sequence[dict[str, Tensor]]) -> list[Outputs]:
    calls = [partial(runner, **inputs) for runner, inputs in zip(runners, given, strict=True)]
    return engines.streams.side_by_side(calls)


def _captured(
    engines: Engines, runners: Sequence[Runner], given: Sequence[dict[str, Tensor]], make_graph: Callable[[], Graph]
) -> list[Outputs]:
    """Captured and replayed on other values first: a graph must see what its inputs hold later."""
    static = [{name: torch.zeros_like(tensor) for name, tensor in inputs.items()} for inputs in given]
    _called(engines, runners, static)  # warms up
    graph = make_graph()
    found = graph.capture(lambda: _called(engines, runners, static))
    graph.replay()
    for mine, wanted in zip(static, given, strict=True):
        for name, tensor in wanted.items():
            mine[name].copy_(tensor)
    graph.replay()
    return found


def _on(device: torch.device, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in inputs.items()}


def _most_rows(spec: EngineSpec, manifest: Manifest) -> int:
    """Of the plan's profile; graphs take any number."""
    if spec.plan is None or not spec.plan.profile:
        return manifest.batch[2]
    return next(iter(spec.plan.profile.values()))[2][0]


def _batches(largest: int) -> tuple[int, ...]:
    """1, 2, 3, 4, then doubled, and the largest."""
    powers = (2**k for k in range(largest.bit_length()))
    return tuple(sorted({rows for rows in (*powers, 3, largest) if rows <= largest}))
