"""Pictures of a traced run, for people: where the objects went, and how the balancer got them there."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from runtime.bundle.manifest import write_atomically
from runtime.layouts.layout import Layout
from runtime.layouts.pictures import INK, bare, draw_layout, outline, png, region_colors
from runtime.output import Output, TraceStep

FAINT = "#8a8a8a"
STEPS_SHOWN = 8  # of a region's attention; weights show every step
GRID_COLUMNS = 10
NAMES = ("layout", "weights", "attention", "loss")


@dataclass(frozen=True)
class Picture:
    """One image of a traced run."""

    image: Image.Image
    prompt: str
    layout: Layout
    trace: Sequence[TraceStep]
    row: int  # of the trace's batch
    map_resolution: tuple[int, int]

    def attention(self, step: TraceStep, region: int) -> np.ndarray:
        return step.region_maps[self.row, region].reshape(self.map_resolution).numpy(force=True)


def write_pictures(
    folder: Path, output: Output, prompt: str, layout: Layout | None, map_resolution: tuple[int, int]
) -> list[Path]:
    """Write layout, weights, attention and loss as PNG files, numbered if there are several images.

    Attention and loss are left out where the layout has no regions.
    """
    paths = []
    for row, image in enumerate(output.images):
        picture = Picture(image, prompt, layout or Layout(()), output.trace, row, map_resolution)
        for name, figure in draw_all(picture).items():
            paths.append(_file(folder, name, row, len(output.images)))
            write_atomically(paths[-1], png(figure))
    return paths


def picture_files(folder: Path, count: int) -> list[Path]:
    """All that `write_pictures` may write of so many images."""
    return [_file(folder, name, row, count) for row in range(count) for name in NAMES]


def _file(folder: Path, name: str, row: int, count: int) -> Path:
    return folder / (f"{name}-{row}.png" if count > 1 else f"{name}.png")


def draw_all(picture: Picture) -> dict[str, Figure]:
    figures = {"layout": draw_layout(picture.image, picture.prompt, picture.layout), "weights": draw_weights(picture)}
    if picture.layout.regions:
        figures |= {"attention": draw_attention(picture), "loss": draw_loss(picture)}
    return figures


def draw_weights(picture: Picture) -> Figure:
    """How much of the spatial model went into each pixel, at every step."""
    columns = min(GRID_COLUMNS, len(picture.trace))
    rows = -(-len(picture.trace) // columns)
    figure = Figure(figsize=(1.15 * columns + 1.0, 1.3 * rows + 0.7), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for i, (axes, step) in enumerate(zip(grid.flat, picture.trace, strict=False)):
        _map(axes, step.spatial_weight[picture.row].numpy(force=True), "coolwarm", 0, 1)
        for region in picture.layout.regions:
            outline(axes, region, INK, width=0.7)
        axes.set_title(f"{i + 1} · t {step.timestep:g}", fontsize=7.5, color=FAINT, pad=2)
    bar = figure.colorbar(grid[0, 0].images[0], ax=grid, shrink=min(1.0, 2.2 / rows), aspect=14, ticks=[0, 0.5, 1])
    bar.ax.set_yticklabels(["text-to-image", "half and half", "spatial"], fontsize=8)
    bar.outline.set_visible(False)
    figure.suptitle("Weight of the spatial model (step · training timestep)", fontsize=11, color=INK)
    return figure


def draw_attention(picture: Picture) -> Figure:
    """Where each region's words look, over the steps; each map has its own brightness, and the region's outline."""
    shown = sorted({round(i) for i in np.linspace(0, len(picture.trace) - 1, STEPS_SHOWN)})
    regions, colors = picture.layout.regions, region_colors(picture.layout)
    figure = Figure(figsize=(1.35 * len(shown) + 1.6, 1.4 * len(regions) + 0.8), layout="constrained")
    grid = figure.subplots(len(regions), len(shown), squeeze=False)
    for r, region in enumerate(regions):
        for axes, i in zip(grid[r], shown, strict=True):
            attention = picture.attention(picture.trace[i], r)
            _map(axes, attention, "magma", attention.min(), attention.max())
            outline(axes, region, colors[r])
            if r == 0:
                axes.set_title(f"step {i + 1}", fontsize=9, color=FAINT)
        grid[r, 0].set_ylabel(
            region.phrase.replace(" ", "\n"), rotation=0, ha="right", va="center", fontsize=10, color=colors[r]
        )
    figure.suptitle("Attention of each region's words", fontsize=11, color=INK)
    return figure


def draw_loss(picture: Picture) -> Figure:
    """The attention loss over the steps, and the share of each region's attention outside it."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    steps = range(1, len(picture.trace) + 1)
    for r, (region, color) in enumerate(zip(picture.layout.regions, region_colors(picture.layout), strict=True)):
        axes.plot(steps, [_share_outside(picture, step, r) for step in picture.trace], color=color, label=region.phrase)
    mean = [float(step.loss[picture.row]) / len(picture.layout.regions) for step in picture.trace]
    axes.plot(steps, mean, color=INK, linewidth=2.2, label="loss / regions")
    _mark_switch(axes, picture)
    axes.set(xlabel="step", ylim=(0, 1), xlim=(1, max(2, len(picture.trace))))
    axes.set_title("Attention that falls outside its region", fontsize=11, color=INK)
    axes.grid(axis="y", color="#e6e6e6")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    return figure


def _share_outside(picture: Picture, step: TraceStep, region: int) -> float:
    attention = picture.attention(step, region)
    inside = picture.layout.regions[region].mask_at(picture.map_resolution)
    return float(1 - (attention * inside).sum() / attention.sum())


def _mark_switch(axes: Axes, picture: Picture) -> None:
    """A line where the text-to-image model joins in."""
    alone = [bool((step.spatial_weight == 1).all()) for step in picture.trace]
    if not alone[0] or all(alone):
        return
    switch = alone.index(False) + 1
    axes.axvline(switch, color=FAINT, linestyle=":", linewidth=1.2)
    axes.text(switch, 0.02, " text-to-image joins", color=FAINT, fontsize=8.5, va="bottom")


def _map(axes: Axes, values: np.ndarray, colors: str, low: float, high: float) -> None:
    bare(axes)
    axes.imshow(values, cmap=colors, vmin=low, vmax=high, extent=(0, 1, 1, 0), interpolation="nearest")
