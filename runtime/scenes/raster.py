"""The z-buffer: what each pixel of a picture shows of a solid, and how near that is."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.scenes.camera import View
from runtime.scenes.shapes import Mesh

Grey = NDArray[np.float64]  # (H,W)


class Drawn(NamedTuple):
    """A solid drawn alone.

    Args:
        nearness: one over the metres along the line of sight, 0 where it is not seen. Linear in the picture on any
            plane, which metres are not.
        triangle: which one is seen, -1 for none.
    """

    nearness: Grey
    triangle: NDArray[np.int64]


def draw(mesh: Mesh, view: View, size: tuple[int, int]) -> Drawn:
    """A mesh that is all before the camera, in a picture of (H, W)."""
    drawn = Drawn(np.zeros(size), np.full(size, -1, dtype=np.int64))
    corners = np.column_stack([view.project(mesh.points) * size[::-1], 1 / view.distances(mesh.points)])
    for i, triangle in enumerate(corners[mesh.triangles]):
        _draw_triangle(drawn, i, triangle)
    return drawn


def ground_nearness(view: View, size: tuple[int, int]) -> Grey:
    """Of the plane y = 0, which the camera is above; 0 above the horizon."""
    return np.maximum(-view.rays(size)[..., 1] / view.position[1], 0)


def _draw_triangle(drawn: Drawn, number: int, corners: NDArray[np.float64]) -> None:
    """Corners (3,3): x and y in pixels, and nearness."""
    height, width = drawn.nearness.shape
    left, top = (max(int(edge), 0) for edge in np.floor(corners[:, :2].min(axis=0)))
    right, bottom = (min(int(edge), most) for edge, most in zip(np.ceil(corners[:, :2].max(axis=0)), (width, height), strict=True))
    (ax, ay, _), (bx, by, _), (cx, cy, _) = corners
    area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
    if left >= right or top >= bottom or area == 0:
        return
    x, y = np.arange(left, right) + 0.5, np.arange(top, bottom)[:, None] + 0.5
    to_b = ((x - ax) * (cy - ay) - (cx - ax) * (y - ay)) / area
    to_c = ((bx - ax) * (y - ay) - (x - ax) * (by - ay)) / area
    nearness = corners[0, 2] * (1 - to_b - to_c) + corners[1, 2] * to_b + corners[2, 2] * to_c
    part = slice(top, bottom), slice(left, right)
    seen = (to_b >= 0) & (to_c >= 0) & (to_b + to_c <= 1) & (nearness > drawn.nearness[part])
    drawn.nearness[part][seen] = nearness[seen]
    drawn.triangle[part][seen] = number
