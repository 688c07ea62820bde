"""Latency as a picture."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.figures import BASELINE, FAINT, INK, OURS, as_png, clean
from benchmarks.grids import Result
from benchmarks.latency.contenders import STOCK
from benchmarks.latency.tables import is_baseline

ENGINES = {
    "text_to_image": ("#2f6f9f", "text-to-image"),
    "spatial": ("#74a9cf", "spatial"),
    "text_to_image_gradient": ("#d98032", "its gradient"),
    "spatial_gradient": ("#f2b879", "spatial's gradient"),
}
BETWEEN = (INK, "between engines")


def draw(found: Result) -> bytes:
    """A PNG: seconds an image, what a step of the runtime consists of, and images a second over batch sizes."""
    has_speeds = any(row["images_per_second"] for row in found["contenders"].values())
    figure = Figure(figsize=(13 if has_speeds else 9.5, 4.2), layout="constrained")
    panels = figure.subplots(1, 3 if has_speeds else 2, width_ratios=[1.25, 1, 0.9][: 3 if has_speeds else 2])
    _draw_seconds(panels[0], found)
    _draw_step(panels[1], found)
    if has_speeds:
        _draw_speeds(panels[2], found)
    return as_png(figure)


def _draw_seconds(axes: Axes, found: Result) -> None:
    rows = found["contenders"]
    names, longest = list(rows), max(max(row["seconds"]) for row in rows.values())
    for y, (name, row) in enumerate(rows.items()):
        axes.barh(y, row["p50"], color=BASELINE if is_baseline(row) else OURS, height=0.7)
        axes.plot([min(row["seconds"]), max(row["seconds"])], [y, y], color=INK, linewidth=1)
        ratio = found["ratios"].get(f"{name}_vs_{STOCK}")
        text = f"{row['p50']:.2f} s" + (f" · {ratio:.2f}×" if ratio else "")
        axes.text(max(row["seconds"]) + 0.02 * longest, y, text, va="center", fontsize=8.5, color=INK)
    axes.set(yticks=range(len(names)), yticklabels=names, xlim=(0, 1.35 * longest))
    axes.invert_yaxis()
    axes.set_title("Seconds an image, and times the stock pipeline's", fontsize=11, color=INK)
    clean(axes, "x")


def _draw_step(axes: Axes, found: Result) -> None:
    ours = {name: row for name, row in found["contenders"].items() if row["engines_ms"]}
    for color, label in (*ENGINES.values(), BETWEEN):
        axes.barh(0, 0, color=color, label=label)  # for the legend, in the order of the bars
    for y, row in enumerate(ours.values()):
        parts = [(ENGINES[role][0], took) for role, took in row["engines_ms"].items()]
        parts.append((BETWEEN[0], row.get("between_engines_ms", 0)))
        left = 0.0
        for color, took in parts:
            axes.barh(y, took, left=left, color=color, height=0.7)
            left += took
        axes.plot([row["step_ms"]] * 2, [y - 0.45, y + 0.45], color=INK, linewidth=2)
    axes.set(yticks=range(len(ours)), yticklabels=list(ours), xlabel="ms")
    axes.invert_yaxis()
    axes.set_title("A step: its engines' time, and its end (line)", fontsize=11, color=INK)
    clean(axes, "x")
    axes.legend(frameon=False, fontsize=8, loc="upper right")


def _draw_speeds(axes: Axes, found: Result) -> None:
    speeds = {name: row["images_per_second"] for name, row in found["contenders"].items() if row["images_per_second"]}
    for name, by_size in speeds.items():
        style: dict[str, Any] = {"color": FAINT, "linestyle": "--"} if name == STOCK else {}
        axes.plot(list(map(int, by_size)), list(by_size.values()), marker="o", markersize=4, label=name, **style)
    axes.set(
        xlabel="images at once", ylim=(0, None), xticks=sorted({int(size) for by in speeds.values() for size in by})
    )
    axes.set_title("Images a second", fontsize=11, color=INK)
    clean(axes, "y")
    axes.legend(frameon=False, fontsize=8)
