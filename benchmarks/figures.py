"""What all pictures of results have in common."""

from io import BytesIO

import matplotlib

matplotlib.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure

DPI = 150
INK, FAINT, BASELINE, OURS = "#222222", "#8a8a8a", "#b9c0c9", "#2f6f9f"


def clean(axes: Axes, grid: str) -> None:
    axes.grid(axis=grid, color="#e6e6e6", zorder=0)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def as_png(figure: Figure) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white")
    return buffer.getvalue()
