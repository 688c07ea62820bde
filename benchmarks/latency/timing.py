"""One image timed, and what is said of a handful of timings."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from benchmarks.latency.contenders import Case, Drawer, Drawn
from runtime.stats import wait_for_device


@dataclass(frozen=True)
class Sample:
    """One image, or one batch of them, in seconds."""

    seconds: float
    stages: dict[str, float]
    engines: dict[str, float]  # within engine calls, by role; empty for PyTorch pipelines
    busy: dict[str, float]  # by stage, with an engine's call under way; empty for PyTorch pipelines
    evaluations: int

    @property
    def between_engines(self) -> float:
        """Of denoising, what is not within an engine call: the runtime's own work. On a CPU; see `Stats`."""
        return self.stages["denoise"] - self.busy["denoise"]


@dataclass(frozen=True)
class Spread:
    """A median and the quartiles around it."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Percentiles:
    p50: float
    p95: float
    p99: float


def take(drawer: Drawer, case: Case) -> tuple[Sample, Drawn]:
    """Time one drawing, from an idle device to an idle device."""
    wait_for_device()
    started = perf_counter()
    drawn = drawer(case)
    wait_for_device()
    seconds = perf_counter() - started
    return Sample(seconds, drawn.stages, drawn.engine_seconds, drawn.busy_seconds, drawn.evaluations), drawn


def spread(values: Sequence[float]) -> Spread:
    low, median, high = np.percentile(values, [25, 50, 75]).tolist()
    return Spread(median, low, high)


def percentiles(values: Sequence[float]) -> Percentiles:
    """Interpolated between samples: of fewer than 100, p99 lies close below the slowest."""
    return Percentiles(*np.percentile(values, [50, 95, 99]).tolist())


def paired_ratios(rounds: dict[str, list[float]]) -> dict[tuple[str, str], Spread]:
    """How many times as long as b each a takes, for all ordered pairs (a, b), from quotients within each round.

    Within a round both are timed a moment apart, so what slows the machine for a while cancels out. A contender that
    has fewer rounds than another is compared with it in those that it has.
    """
    return {
        (a, b): spread([x / y for x, y in zip(of_a, of_b, strict=False)])
        for a, of_a in rounds.items()
        for b, of_b in rounds.items()
        if a != b
    }
