"""3D scenes as a picture: what they are, their depth, and what was drawn of them."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from benchmarks.figures import as_png
from benchmarks.scenes.measure import Row
from benchmarks.scenes.worlds import World
from benchmarks.tabletop.scenes import COLORS, Array
from runtime.layouts.pictures import bare
from runtime.scenes.pictures import shaded

SHOWN = 6


def draw(worlds: Sequence[World], rows: Sequence[Row]) -> bytes:
    """A PNG: a column for each of the first scenes."""
    given = {"scene": [_colored(world) for world in worlds], "depth": [_grey(world) for world in worlds]}
    lines = given | {f"{row.mode},\ndepth: {row.depth}": row.images for row in rows}
    columns = min(SHOWN, len(worlds))
    figure = Figure(figsize=(1.6 * columns + 0.6, 1.6 * len(lines)), layout="constrained")
    grid = figure.subplots(len(lines), columns, squeeze=False)
    for line, (name, images) in zip(grid, lines.items(), strict=True):
        line[0].set_ylabel(name, fontsize=9)
        for axes, image in zip(line, images, strict=False):
            axes.imshow(image, extent=(0, 1, 1, 0), vmin=0, vmax=1, cmap="gray")
            bare(axes)
    return as_png(figure)


def _colored(world: World) -> Array:
    return shaded(world.shot, np.array([COLORS[thing.color] for thing in world.asked.things]))


def _grey(world: World) -> Array:
    return world.shot.depth
