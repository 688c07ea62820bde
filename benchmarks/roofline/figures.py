"""A roofline as a picture."""

from collections.abc import Sequence
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.figures import FAINT, as_png, clean
from benchmarks.grids import Result
from benchmarks.roofline.costs import Cost
from benchmarks.roofline.gpus import ELEMENT_BYTES, Ceilings

MARKERS = "osD^v<>"


def draw(found: Result) -> bytes:
    """A PNG: the roof of each precision, and the engines under it, as they ran or else as they could in fp16."""
    figure = Figure(figsize=(8, 4.4), layout="constrained")
    axes, ceilings = figure.subplots(), Ceilings(**found["ceilings"])
    shown, how = (found["precision"], "as they ran") if found["measured"] else ("fp16", "at best")
    intensities = [_intensity(Cost(**engine["cost"]), shown) for engine in found["engines"]]
    _draw_roofs(axes, ceilings, intensities)
    possible = [_attainable(x, shown, ceilings) for x in intensities]
    reached = [row["tflops"] for row in found["measured"]] or possible
    for engine, x, y, marker in zip(found["engines"], intensities, reached, cycle(MARKERS), strict=False):
        label = f"{engine['role']}, {engine['rows']} rows"
        axes.plot(x, y, marker, markersize=7, alpha=0.8, label=label)
    axes.set(xscale="log", yscale="log", xlabel="operations a byte of memory traffic", ylabel="TFLOP/s")
    axes.set_title(f"{ceilings.name}: engines {how}, {shown}", loc="left")
    clean(axes, "both")
    figure.legend(frameon=False, fontsize=8, loc="outside right upper")
    return as_png(figure)


def _draw_roofs(axes: Axes, ceilings: Ceilings, intensities: Sequence[float]) -> None:
    """Each from left of all engines and ridges to the right of them."""
    ridges = {name: tflops / (ceilings.bandwidth / 1e3) for name, tflops in ceilings.tflops.items()}
    shown = [*intensities, *ridges.values()]
    for name, ridge in ridges.items():
        ends = min(shown) / 2, ridge, max(shown) * 3
        axes.plot(ends, [_attainable(x, name, ceilings) for x in ends], color=FAINT, linewidth=1)
        place = (ends[-1], ceilings.tflops[name])
        axes.annotate(name, place, ha="right", va="bottom", fontsize=8, color="#555555")


def _intensity(cost: Cost, precision: str) -> float:
    return cost.flops / cost.bytes(ELEMENT_BYTES[precision])


def _attainable(intensity: float, precision: str, ceilings: Ceilings) -> float:
    """In TFLOP/s."""
    return min(ceilings.tflops[precision], intensity * ceilings.bandwidth / 1e3)
