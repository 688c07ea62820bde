"""What a profile says of an image, to hold against what a run counts."""

from collections import Counter
from pathlib import Path

from benchmarks.latency.contenders import LAYOUT, PROMPT, Sampling, Target
from benchmarks.latency.profile import EngineProfile, profile_bundle
from runtime import Layout, RealCompo
from runtime.stats import Stats

SAMPLING = Sampling(steps=2, guidance_scale=7.5)  # three evaluations


def profile(bundle: Path) -> list[EngineProfile]:
    target = Target(str(bundle), "", "", (0, 0), ("onnx",), "cpu", "float32", threads=1)
    return profile_bundle(target, SAMPLING, lambda _: None)


def run(pipe: RealCompo, prompt: str = PROMPT, layout: Layout = LAYOUT) -> Stats:
    """The same image, drawn."""
    return pipe(prompt, layout=layout, steps=SAMPLING.steps, guidance_scale=SAMPLING.guidance_scale).stats


def assert_profiled(profiles: list[EngineProfile], stats: Stats) -> None:
    calls, rows = Counter[str](), Counter[str]()
    for found in profiles:
        calls[found.role] += found.calls
        rows[found.role] += found.calls * found.rows
    assert calls == stats.calls and rows == stats.rows
