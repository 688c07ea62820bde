"""Quality as a picture."""

from matplotlib.figure import Figure

from benchmarks.figures import INK, as_png, clean
from benchmarks.grids import Result


def draw(found: Result) -> bytes:
    """A PNG: how well objects are placed against how realistic the picture is, a point a mode."""
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplots()
    for row in found["rows"]:
        axes.scatter(row["realism"], row["in_box"], s=70, alpha=0.9, label=row["mode"], zorder=2)
    axes.set(xlabel="realism", ylabel="objects in their boxes", xlim=(0, 1), ylim=(0, 1))
    axes.set_title("Each mode: placement against realism", fontsize=11, color=INK)
    clean(axes, "both")
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    return as_png(figure)
