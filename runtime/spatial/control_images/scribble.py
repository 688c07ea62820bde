"""Scribble: the regions' outlines in white on black, as if drawn by hand with a thick pen."""

import numpy as np

from runtime.errors import FieldError
from runtime.layouts.layout import Layout
from runtime.spatial.control_images.kind import Canvas, ControlKind

PEN, DRAWN_AT = 4, 512  # pixels to either side of an outline, where the shorter side of the picture is so long
COVERED = 0.5  # a pixel belongs to a region that covers at least this share of it


def _draw(layout: Layout, canvas: Canvas) -> np.ndarray:
    if not layout.regions:
        raise FieldError("regions", "the layout has no regions to draw scribble's control image from")
    pen = max(round(PEN * min(canvas.size) / DRAWN_AT), 1)
    lines = np.zeros(canvas.size, dtype=bool)
    for region in layout.regions:
        lines |= _outline(region.mask_at(canvas.size) >= COVERED, pen)
    return np.repeat(lines[:, :, None], 3, axis=2).astype(np.float32)


def _outline(inside: np.ndarray, pen: int) -> np.ndarray:
    """The pixels (H,W) that are at most `pen` pixels from the other side of the edge, in a square around them."""
    return _grown(inside, pen) & _grown(~inside, pen)


def _grown(pixels: np.ndarray, by: int) -> np.ndarray:
    height, width = pixels.shape
    framed = np.pad(pixels, by)
    shifts = range(2 * by + 1)
    rows = np.any([framed[shift : shift + height] for shift in shifts], axis=0)
    return np.any([rows[:, shift : shift + width] for shift in shifts], axis=0)


SCRIBBLE = ControlKind("scribble", "the regions' outlines", _draw)
