"""A gallery as a picture."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from benchmarks.gallery.measure import Row
from runtime.layouts.pictures import bare, outline, region_colors

COLUMNS = ("given", "text-to-image alone", "spatial alone", "RealCompo", "weight of spatial, mean")


def draw_gallery(rows: Sequence[Row], caption: str) -> Figure:
    """A line for each bundle."""
    figure = Figure(figsize=(2 * len(COLUMNS), 2.05 * len(rows) + 0.5), layout="constrained")
    lines = figure.subplots(len(rows), len(COLUMNS), squeeze=False)
    for line, row in zip(lines, rows, strict=True):
        _draw_row(line, row)
    for axes, title in zip(lines[0], COLUMNS, strict=True):
        axes.set_title(title, fontsize=10)
    figure.suptitle(caption, fontsize=11)
    return figure


def _draw_row(line: Sequence[Axes], row: Row) -> None:
    pictures = [Image.fromarray(np.hstack([np.asarray(image) for image in row.given])), *row.images]
    for axes, picture in zip(line, pictures, strict=False):
        axes.imshow(picture, extent=(0, 1, 1, 0), interpolation="lanczos")
    line[-1].imshow(row.weight, extent=(0, 1, 1, 0), vmin=0, vmax=1, cmap="viridis")
    for axes in line:
        bare(axes)
    if row.outlined:
        for region, color in zip(row.layout.regions, region_colors(row.layout), strict=True):
            outline(line[0], region, color)
    line[0].set_ylabel(row.name)
