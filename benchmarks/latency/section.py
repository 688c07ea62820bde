"""What `report` shows of latency."""

from collections.abc import Mapping
from typing import Any

from benchmarks.grids import Result
from benchmarks.latency.figures import draw
from benchmarks.latency.tables import grids, parity_line, profile_grids
from benchmarks.sections import Key, Section, embed

KEYS = {
    "eager_vs_exact": "as fast as RealCompo in eager PyTorch, the same images",
    "eager_vs_surrogate": "as fast as RealCompo in eager PyTorch, with the surrogate gradient",
    "exact_vs_stock": "the time of the stock text-to-image pipeline, the paper's method",
    "surrogate_vs_stock": "the time of the stock text-to-image pipeline, the surrogate gradient",
}


def section(found: Result) -> Section:
    settings, bundle = found["settings"], found["bundle"]
    height, width = bundle["image_size"]
    return Section(
        "Latency",
        f"{bundle['pair']}, {width}×{height} pixels, {bundle['precision']} engines beside PyTorch in "
        f"{settings['torch_dtype']}, {settings['device']}, threads: {settings['threads']}. Every contender draws the "
        f"same image from the same latents and checkpoints, {_order(settings)}.",
        keys=tuple(_keys(found)),
        figure=embed("Latency", draw(found)),
        grids=tuple(grids(found)),
        details=tuple(profile_grids(found)),
        note=f"{parity_line(found)}.",
    )


def _order(settings: Mapping[str, Any]) -> str:
    if settings["one_at_a_time"]:
        return f"in a process of its own, right after a run of the stock pipeline (such pairs: {settings['rounds']})"
    return f"in turns (rounds: {settings['rounds']})"


def _keys(found: Result) -> list[Key]:
    ratios = found["ratios"]
    return [Key(f"{ratios[name]:.2f}×", meaning) for name, meaning in KEYS.items() if name in ratios]
