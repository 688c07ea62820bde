"""Pictures of layouts, for people: every region's outline, pose and phrase."""

import warnings
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from runtime.layouts.geometry import Keypoint
from runtime.layouts.keypoints import BODIES
from runtime.layouts.layout import Layout, Region
from runtime.layouts.openpose import COLORS, LIMBS, coco_18

matplotlib.rcParams["text.parse_math"] = False  # phrases and prompts are plain text, dollars too
INK = "#222222"
FINE = 256  # pixels a side, at least, of a mask when its outline is sought: or it would cut pixels' corners


def draw_layout(image: Image.Image, prompt: str, layout: Layout) -> Figure:
    """The image with every region's outline and phrase; masks are tinted, keypoints joined to people."""
    width, height = image.size
    figure = Figure(figsize=(6, 6 * height / width + 0.6), layout="constrained")
    axes = figure.subplots()
    axes.imshow(image, extent=(0, 1, 1, 0), aspect=height / width, interpolation="lanczos")
    for region, color in zip(layout.regions, region_colors(layout), strict=True):
        if region.mask is not None:
            axes.contourf(*_grid(region), levels=[0.5, 1], colors=[color], alpha=0.35)
        outline(axes, region, color)
        _name(axes, region, color)
    bare(axes)
    axes.set_title(prompt, fontsize=12, color=INK, wrap=True)
    return figure


def outline(axes: Axes, region: Region, color: Any, width: float = 1.8) -> None:
    """The region's box, mask or pose, on a white rim that keeps it apart from any ground."""
    for edge, line in (("white", 1.8 * width), (color, width)):
        if region.mask is not None:
            axes.contour(*_grid(region), levels=[0.5], colors=[edge], linewidths=line)
        else:
            x0, y0, x1, y1 = region.bounding_box()
            axes.add_patch(
                Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=edge, linewidth=line, clip_on=False)
            )
    if region.keypoints is not None:
        _pose(axes, region.keypoints, width)


def bare(axes: Axes) -> None:
    axes.set_axis_on()
    axes.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(1, 0))
    axes.spines[:].set_visible(False)


def region_colors(layout: Layout) -> list[Any]:
    palette = colormaps["tab10"].colors  # type: ignore[attr-defined]
    return [palette[i % len(palette)] for i in range(len(layout.regions))]


def png(figure: Figure) -> bytes:
    buffer = BytesIO()
    with warnings.catch_warnings(action="ignore"):  # of scripts that matplotlib's font lacks
        figure.savefig(buffer, format="png", dpi=150, facecolor="white", bbox_inches="tight", pad_inches=0.08)
    return buffer.getvalue()


def _name(axes: Axes, region: Region, color: Any) -> None:
    left, top, _, _ = region.bounding_box()
    above = top > 0.06
    axes.text(
        left + 0.008 if above else left + 0.02,
        top - 0.012 if above else top + 0.022,
        region.phrase,
        va="bottom" if above else "top",
        fontsize=11,
        color="white",
        bbox={"facecolor": color, "edgecolor": "none", "boxstyle": "round,pad=0.25"},
    )


def _grid(region: Region) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels' centres and values, with a rim of zeros that closes the outline at the image's edge: x, y, mask."""
    mask = np.asarray(region.mask)
    for axis in (0, 1):
        mask = mask.repeat(-(-FINE // mask.shape[axis]), axis)
    y, x = ((np.arange(-1, size + 1) + 0.5) / size for size in mask.shape)
    return x, y, np.pad(mask, 1)


def _pose(axes: Axes, keypoints: Sequence[Keypoint], width: float) -> None:
    """Limbs in OpenPose's colours where the points are a body of its own, and a dot a point."""
    if len(keypoints) in BODIES:
        body = coco_18(keypoints)
        for (start, end), color in zip(LIMBS, COLORS, strict=False):  # one colour more than limbs
            if (a := body[start]) is not None and (b := body[end]) is not None:
                axes.plot((a[0], b[0]), (a[1], b[1]), color=np.divide(color, 255), linewidth=1.5 * width)
    seen = [point for point in keypoints if point is not None]
    axes.scatter([x for x, _ in seen], [y for _, y in seen], s=6 * width, color=INK, zorder=3)
