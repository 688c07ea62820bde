"""Latency over load as a picture."""

from matplotlib.figure import Figure

from benchmarks.figures import BASELINE, OURS, as_png, clean
from benchmarks.grids import Result


def draw(found: Result) -> bytes:
    """A PNG: seconds for clients at each rate below saturation, the median and the 95th percentile."""
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes, rates = figure.subplots(), found["rates"]
    for name, color in (("p50", BASELINE), ("p95", OURS)):
        axes.plot([rate["rate"] for rate in rates], [rate[name] for rate in rates], "o-", color=color, label=name)
    axes.axhline(found["lone"]["seconds"], color=BASELINE, linestyle=":", label="alone")
    axes.set(xlabel="requests a second", ylabel="seconds", ylim=(0, None))
    axes.legend(frameon=False)
    clean(axes, "y")
    return as_png(figure)
