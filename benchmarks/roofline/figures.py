"""A roofline as tables and as a picture."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from rich.table import Table

from benchmarks.roofline.costs import Cost
from benchmarks.roofline.gpus import ELEMENT_BYTES, Ceilings
from benchmarks.roofline.measure import Roofline

matplotlib.use("Agg")


def tables(roofline: Roofline) -> list[Table]:
    shown = [_work_table(roofline), _floor_table(roofline), _stage_table(roofline)]
    return [*shown, _measured_table(roofline)] if roofline.measured else shown


def _work_table(roofline: Roofline) -> Table:
    table = Table(
        "engine", "rows", "GFLOP", "weights", "activations", "other", title="A call, in 10^9 and 10^6 elements"
    )
    for engine in roofline.engines:
        cost = engine.cost
        elements = (cost.weights, cost.activations, cost.element_operations)
        counts = (f"{count / 1e6:.3g}" for count in elements)
        table.add_row(engine.role, str(engine.rows), f"{cost.flops / 1e9:.3g}", *counts)
    return table


def _floor_table(roofline: Roofline) -> Table:
    table = Table("engine", *roofline.ceilings.tflops, title=f"Least ms of a call on {_describe(roofline.ceilings)}")
    for engine in roofline.engines:
        table.add_row(engine.role, *(f"{least.seconds * 1e3:.3g} {least.bound}" for least in engine.floors.values()))
    return table


def _stage_table(roofline: Roofline) -> Table:
    precisions = roofline.ceilings.tflops
    table = Table("floor, ms", *precisions, title="Engines one after another")
    for name, floors in roofline.stages.items():
        table.add_row(name, *(f"{floors[p] * 1e3:.3g}" for p in precisions))
    gigabytes = (roofline.weights * ELEMENT_BYTES[p] / 1e9 for p in precisions)
    table.add_row(f"weights, GB of {roofline.ceilings.memory:.0f}", *(f"{size:.2g}" for size in gigabytes))
    return table


def _measured_table(roofline: Roofline) -> Table:
    table = Table("engine", "rows", "ms", "GFLOP/s", "of the ceiling", title="Measured, ONNX Runtime in fp32")
    for row in roofline.measured:
        table.add_row(
            row.role, str(row.rows), f"{row.seconds * 1e3:.3g}", f"{row.tflops * 1e3:.3g}", f"{row.share:.0%}"
        )
    return table


def _describe(ceilings: Ceilings) -> str:
    rates = ", ".join(f"{name} {tflops:.4g}" for name, tflops in ceilings.tflops.items())
    return f"{ceilings.name} (TFLOP/s: {rates}; {ceilings.bandwidth:.4g} GB/s)"


def draw_figure(roofline: Roofline) -> bytes:
    """A PNG: the roof of each precision, and the engines under it, as they ran or else as they could in fp16."""
    figure = Figure(figsize=(8, 4.4), layout="constrained")
    axes, ceilings = figure.subplots(), roofline.ceilings
    shown = "fp32" if roofline.measured else "fp16"
    intensities = [_intensity(engine.cost, shown) for engine in roofline.engines]
    possible = [_attainable(x, shown, ceilings) for x in intensities]
    reached = [measured.tflops for measured in roofline.measured] or possible
    for precision in ceilings.tflops:
        _draw_roof(axes, ceilings, precision, intensities)
    for engine, x, y, marker in zip(roofline.engines, intensities, reached, "osD^v<>", strict=False):
        axes.plot(x, y, marker, markersize=7, alpha=0.8, label=engine.role)
    axes.set(xscale="log", yscale="log", xlabel="operations a byte of memory traffic", ylabel="TFLOP/s")
    axes.set_title(
        f"{ceilings.name}: engines {'as they ran, ' if roofline.measured else 'at best, '}{shown}", loc="left"
    )
    axes.grid(color="#ededed")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, fontsize=8, loc="outside right upper")
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=150, facecolor="white")
    return buffer.getvalue()


def _draw_roof(axes: Any, ceilings: Ceilings, precision: str, intensities: Sequence[float]) -> None:
    ridge = ceilings.tflops[precision] / (ceilings.bandwidth / 1e3)
    ridges = [tflops / (ceilings.bandwidth / 1e3) for tflops in ceilings.tflops.values()]
    ends = min([*intensities, *ridges]) / 2, ridge, max([*intensities, *ridges]) * 3
    axes.plot(ends, [_attainable(x, precision, ceilings) for x in ends], color="#8a8a8a", linewidth=1)
    label: dict[str, Any] = {"ha": "right", "va": "bottom", "fontsize": 8, "color": "#555555"}
    axes.annotate(precision, (ends[-1], ceilings.tflops[precision]), **label)


def _intensity(cost: Cost, precision: str) -> float:
    return cost.flops / cost.bytes(ELEMENT_BYTES[precision])


def _attainable(intensity: float, precision: str, ceilings: Ceilings) -> float:
    """In TFLOP/s."""
    return min(ceilings.tflops[precision], intensity * ceilings.bandwidth / 1e3)
