"""The z-buffer: what each pixel of a picture shows of a solid, and how near that is."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.scenes.camera import View
from runtime.scenes.shapes import Mesh

Grey = NDArray[np.float64]  # (H,W)
Window = tuple[slice, slice]  # rows and columns of a picture


class Drawn(NamedTuple):
    """A solid drawn alone.

    Args:
        window: the part of the picture that the arrays (h,w) are of.
        nearness: one over the metres along the line of sight, 0 where it is not seen. Linear in the picture on any
            plane, which metres are not.
        triangle: which one is seen, -1 for none.
    """

    window: Window
    nearness: Grey
    triangle: NDArray[np.int64]

    def part(self, window: Window) -> Window:
        """Where a part of its window is in the arrays."""
        rows, columns = (
            slice(one.start - own.start, one.stop - own.start) for one, own in zip(window, self.window, strict=True)
        )
        return rows, columns


def draw(mesh: Mesh, view: View, size: tuple[int, int]) -> Drawn:
    """A mesh that is all before the camera, in a picture of (H, W)."""
    corners = np.column_stack([view.project(mesh.points) * size[::-1], 1 / view.distances(mesh.points)])
    window = _window(corners, (slice(0, size[0]), slice(0, size[1])))
    shape = window[0].stop - window[0].start, window[1].stop - window[1].start
    drawn = Drawn(window, np.zeros(shape), np.full(shape, -1, dtype=np.int64))
    triangles = corners[mesh.triangles]
    for i, part in _windows(triangles[..., :2], window):
        _draw_triangle(drawn, i, triangles[i], part)
    return drawn


def common(a: Window, b: Window) -> Window:
    """Where two windows overlap; empty where they do not."""
    return _cut(a[0], b[0]), _cut(a[1], b[1])


def _cut(a: slice, b: slice) -> slice:
    start = max(a.start, b.start)
    return slice(start, max(min(a.stop, b.stop), start))


def ground_nearness(view: View, size: tuple[int, int]) -> Grey:
    """Of the plane y = 0, which the camera is above; 0 above the horizon."""
    return np.maximum(-view.rays(size)[..., 1] / view.position[1], 0)


def _window(corners: NDArray[np.float64], most: Window) -> Window:
    """The pixels around corners (n,3), as far as a window goes."""
    x, y = (slice(*np.array([np.floor(at.min()), np.ceil(at.max())]).clip(-1, 1e6).astype(int)) for at in corners.T[:2])
    return common(most, (y, x))


def _windows(triangles: NDArray[np.float64], most: Window) -> Iterator[tuple[int, Window]]:
    """Of triangles (m,3,2) in pixels those with pixels' middles between their corners, and where these are."""
    (top, bottom), (left, right) = ((one.start, one.stop) for one in most)
    starts = np.ceil(triangles.min(axis=1) - 0.5).clip((left, top), (right, bottom)).astype(int)
    stops = (np.floor(triangles.max(axis=1) - 0.5) + 1).clip((left, top), (right, bottom)).astype(int)
    for i in np.flatnonzero((starts < stops).all(axis=1)):
        (x0, y0), (x1, y1) = starts[i].tolist(), stops[i].tolist()
        yield int(i), (slice(y0, y1), slice(x0, x1))


def _draw_triangle(drawn: Drawn, number: int, corners: NDArray[np.float64], window: Window) -> None:
    """Corners (3,3): x and y in pixels, and nearness."""
    rows, columns = window
    (ax, ay, _), (bx, by, _), (cx, cy, _) = corners
    area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
    if area == 0:
        return
    x, y = np.arange(columns.start, columns.stop) + 0.5, np.arange(rows.start, rows.stop)[:, None] + 0.5
    to_b = ((x - ax) * (cy - ay) - (cx - ax) * (y - ay)) / area
    to_c = ((bx - ax) * (y - ay) - (x - ax) * (by - ay)) / area
    nearness = corners[0, 2] * (1 - to_b - to_c) + corners[1, 2] * to_b + corners[2, 2] * to_c
    part = drawn.part(window)
    seen = (to_b >= 0) & (to_c >= 0) & (to_b + to_c <= 1) & (nearness > drawn.nearness[part])
    drawn.nearness[part][seen] = nearness[seen]
    drawn.triangle[part][seen] = number
