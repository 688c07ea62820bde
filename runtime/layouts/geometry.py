"""Places in fractions of the image, and what they cover of a grid of equal cells, exactly."""

import numpy as np

Box = tuple[float, float, float, float]  # x0, y0, x1, y1, origin top left
Point = tuple[float, float]  # x, y
Keypoint = Point | None  # None: not seen


def pixel_edges(count: int) -> np.ndarray:
    """Where `count` equal pixels of 0..1 start and end: (count + 1,)."""
    return np.linspace(0, 1, count + 1)


def coverage(edges: np.ndarray, cells: int) -> np.ndarray:
    """The share of each of `cells` equal cells of 0..1 that each interval between edges covers: (intervals, cells)."""
    grid = pixel_edges(cells)
    starts, ends = edges[:-1, None], edges[1:, None]
    return np.maximum(np.minimum(ends, grid[1:]) - np.maximum(starts, grid[:-1]), 0) * cells


def whole_cells(box: Box, resolution: tuple[int, int]) -> np.ndarray:
    """A box of cells, its edges rounded down: (height, width) float32, 1 inside and 0 outside."""
    height, width = resolution
    left, top, right, bottom = (int(edge * cells) for edge, cells in zip(box, (width, height) * 2, strict=True))
    inside = np.zeros(resolution, dtype=np.float32)
    inside[top:bottom, left:right] = 1
    return inside


def extent(covered: np.ndarray) -> tuple[float, float]:
    """Where a line of pixels starts and ends to be covered, in fractions."""
    indices = np.flatnonzero(covered)
    return float(indices[0] / len(covered)), float((indices[-1] + 1) / len(covered))
