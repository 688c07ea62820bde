"""Depth: the layout's depth in grey, near is bright."""

import numpy as np
from PIL import Image

from runtime.errors import FieldError
from runtime.layouts.layout import Layout
from runtime.spatial.control_images.kind import Canvas, ControlKind


def _draw(layout: Layout, canvas: Canvas) -> np.ndarray:
    return np.repeat(_depth_at(layout, canvas.size)[:, :, None], 3, axis=2)


def _depth_at(layout: Layout, size: tuple[int, int]) -> np.ndarray:
    if not isinstance(layout.depth, np.ndarray):
        raise FieldError("depth", "the layout has no depth to make a control image of; give it one")
    height, width = size
    resized = Image.fromarray(layout.depth).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized).clip(0, 1)


DEPTH = ControlKind("depth", "the layout's depth", _draw)
