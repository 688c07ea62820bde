"""A gallery as a picture."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from benchmarks.gallery.measure import Row
from runtime.layouts.pictures import bare, outline, region_colors

GIVEN = ("given", "text-to-image alone", "spatial alone")
WORDS = {"exact": "RealCompo (exact)"}


def draw_gallery(rows: Sequence[Row], modes: Sequence[str] = ("exact",)) -> Figure:
    """A line for each bundle. The modes are those that the rows were drawn in. A caption stands where it begins."""
    columns = columns_of(modes)
    figure = Figure(figsize=(2 * len(columns), 2.05 * len(rows) + 0.5), layout="constrained")
    lines = figure.subplots(len(rows), len(columns), squeeze=False)
    for line, row in zip(lines, rows, strict=True):
        _draw_row(line, row)
    for axes, title in zip(lines[0], columns, strict=True):
        axes.set_title(title, fontsize=10)
    figure.suptitle(rows[0].caption, fontsize=11)
    for (above, row), line in zip(pairwise(rows), lines[1:], strict=True):
        if row.caption != above.caption:
            line[0].set_title(row.caption, loc="left", fontsize=11)
    return figure


def columns_of(modes: Sequence[str]) -> tuple[str, ...]:
    """Titles."""
    named = [WORDS.get(mode, mode) for mode in modes]
    return (*GIVEN, *named, f"weight of spatial, {modes[0]}")


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
