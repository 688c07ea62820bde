"""Shapes: a row each, as triangles in a cube of side 1 around the origin, whose front is z = 0.5."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ROUND = 32  # corners of a circle: its chords are within half a percent of it
TUBE = 16
HOLE = 0.44  # of a torus: how wide its hole is, a share of its width

Points = NDArray[np.float64]  # (n,3)
Triangles = NDArray[np.int64]  # (m,3), indices of points


class Mesh(NamedTuple):
    points: Points
    triangles: Triangles


def _cuboid() -> Mesh:
    points = np.array([(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    faces = [np.flatnonzero(points[:, axis] == side) for axis in range(3) for side in (-0.5, 0.5)]
    return Mesh(points, np.array([three for a, b, c, d in faces for three in ((a, b, c), (b, c, d))]))


def _sphere() -> Mesh:
    polar = np.linspace(0, np.pi, ROUND // 2 + 1)
    profile = np.stack([np.sin(polar), np.cos(polar)], axis=1) / 2
    return _turned(profile)


def _cone() -> Mesh:
    """Its tip is up."""
    return _turned(np.array([(0, 0.5), (0.5, -0.5), (0, -0.5)]))


def _torus() -> Mesh:
    """A ring that stands upright: one looks through its hole from the front."""
    around, tube = _angles(ROUND), _angles(TUBE)
    thick = (1 - HOLE) / 4
    radius = 0.5 - thick + thick * np.cos(tube)
    depth = np.broadcast_to(np.sin(tube) / 2, (ROUND, TUBE))
    points = np.stack([np.outer(np.cos(around), radius), np.outer(np.sin(around), radius), depth], axis=-1)
    return Mesh(points.reshape(-1, 3), _grid(ROUND, TUBE, closed=True))


def _turned(profile: Points) -> Mesh:
    """What a line of (radius, height) leaves when it is turned about the vertical."""
    around = _angles(ROUND)
    radius, height = profile.T
    x, z = np.outer(np.cos(around), radius), np.outer(np.sin(around), radius)
    points = np.stack([x, np.broadcast_to(height, x.shape), z], axis=-1)
    return Mesh(points.reshape(-1, 3), _grid(ROUND, len(profile), closed=False))


def _angles(count: int) -> NDArray[np.float64]:
    return np.linspace(0, 2 * np.pi, count, endpoint=False)


def _grid(rows: int, columns: int, closed: bool) -> Triangles:
    """Two triangles for every four neighbours; rows join up, and columns too if closed."""
    row, column = np.meshgrid(np.arange(rows), np.arange(columns if closed else columns - 1), indexing="ij")
    a, b, c, d = (
        ((row + down) % rows * columns + (column + right) % columns).ravel()
        for down, right in ((0, 0), (0, 1), (1, 0), (1, 1))
    )
    return np.concatenate([np.stack([a, b, c], axis=1), np.stack([b, c, d], axis=1)])


SHAPES: dict[str, Callable[[], Mesh]] = {
    "cuboid": cache(_cuboid),
    "sphere": cache(_sphere),
    "cone": cache(_cone),
    "torus": cache(_torus),
}
