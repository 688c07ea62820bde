"""The curve as a picture."""

from matplotlib.figure import Figure

from benchmarks.figures import OURS, as_png, clean
from benchmarks.grids import Result


def draw(found: Result) -> bytes:
    """A PNG: images a second of one replica."""
    sizes = sorted(map(int, found["curve"]))
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    axes.plot(sizes, [size / found["curve"][str(size)] for size in sizes], "o-", color=OURS)
    axes.set(xlabel="images of a run", ylabel="images a second", ylim=(0, None), xticks=sizes)
    clean(axes, "y")
    return as_png(figure)
