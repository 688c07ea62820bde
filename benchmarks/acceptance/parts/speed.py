"""Images a second, cold load, first image and memory of single contenders, each in a process of its own."""

from typing import Any

from benchmarks.acceptance.outcome import Job, Outcome
from benchmarks.acceptance.parts.targets import find
from benchmarks.latency import probe
from benchmarks.latency.contenders import Contender, Sampling, Target, choose, contenders

CONTENDERS = ("stock", "surrogate", "exact")
BATCHES = (1, 8)


def run(job: Job, only: tuple[str, ...] = CONTENDERS) -> Outcome:
    target, sampling = find(job), Sampling(job.steps, 7.5)
    chosen = choose(contenders(target), list(only))
    found = {one.name: _measure(one, target, sampling) for one in chosen}
    words = [f"{name} {speeds[max(speeds)]:.2f}" for name, row in found.items() if (speeds := row["images_per_second"])]
    return Outcome("passed", f"images a second, {max(BATCHES)} at once: {', '.join(words)}", {"speeds": found})


def _measure(one: Contender, target: Target, sampling: Sampling) -> dict[str, Any]:
    print(f"in a process of its own: {one.name}")
    return _shown(probe.run(one, target, sampling, 0, BATCHES))


def _shown(finding: probe.Finding) -> dict[str, Any]:
    names = ("images_per_second", "cold_load", "first_image", "peak_rss", "gpu_memory")
    return {name: getattr(finding, name) for name in names}
