"""Gradients as a picture."""

from matplotlib.figure import Figure

from benchmarks.figures import FAINT, as_png, clean
from benchmarks.grids import Result


def draw(found: Result) -> bytes:
    """A PNG: losses over the evaluations, and cosines with the exact gradient."""
    losses = found["losses"]
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, values in losses.items():
        left.plot(range(1, len(values) + 1), values, label=name)
    left.set(xlabel="evaluation", title="Attention outside its region (loss a region)")
    last = max(map(len, losses.values()))
    for row in found["agreement"]:
        values = row["cosine"]
        right.plot(range(last - len(values) + 1, last + 1), values, label=row["name"])
    right.axhline(0, color=FAINT, linewidth=0.8)
    right.set(xlabel="evaluation", title="Cosine with the exact gradient", ylim=(-1, 1.05))
    for axes in (left, right):
        clean(axes, "y")
        axes.legend(frameon=False, fontsize=8)
    return as_png(figure)
