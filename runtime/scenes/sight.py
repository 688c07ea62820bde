"""How far aside of a nearer thing another has to be, so that about half of it is seen from where the camera is."""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from runtime.scenes.relations import RIGHT

NEARLY = 1e-2  # of a camera's distance from the origin

Vector = NDArray[np.float64]  # (3,)


@dataclass(frozen=True, eq=False)
class Eye:
    """A camera in the axes of relations: to the right, up and nearer.

    Args:
        position: (3,) metres.
        back: (3,) of length 1, against its line of sight. Its right is the axes' own.
    """

    position: Vector
    back: Vector

    def distance(self, point: Vector) -> float:
        """Metres before the camera, along its line of sight."""
        return float((self.position - point) @ self.back)

    def slope(self, point: Vector) -> float:
        """How far to the right it is seen: metres a metre before the camera."""
        return float(point[RIGHT] - self.position[RIGHT]) / self.distance(point)


def is_at(one: Eye | None, other: Eye | None) -> bool:
    """Whether two are nearly the same."""
    if one is None or other is None:
        return one is other
    return float(np.linalg.norm(one.position - other.position)) <= NEARLY * float(np.linalg.norm(one.position))


def right_of(eye: Eye | None, sizes: NDArray[np.float64], places: NDArray[np.float64], i: int, other: int) -> float:
    """Where i, whose height and depth are known, is seen with its middle at the right edge of a nearer one."""
    corners = [places[other] + half for half in _right_corners(sizes[other])]
    if eye is None or min(map(eye.distance, [*corners, places[i]])) <= 0:
        return float(places[other, RIGHT] + sizes[other, RIGHT] / 2)
    return float(eye.position[RIGHT] + max(map(eye.slope, corners)) * eye.distance(places[i]))


def left_of(eye: Eye | None, sizes: NDArray[np.float64], places: NDArray[np.float64], i: int, other: int) -> float:
    """Where i, whose height and depth are known, is seen with its right edge at the middle of a farther one."""
    halves = _right_corners(sizes[i])
    distances = [eye.distance(places[i] + half) for half in halves] if eye else []
    if eye is None or min(*distances, eye.distance(places[other])) <= 0:
        return float(places[other, RIGHT] - sizes[i, RIGHT] / 2)
    slope = eye.slope(places[other])
    return float(eye.position[RIGHT] + min(slope * one for one in distances) - sizes[i, RIGHT] / 2)


def _right_corners(size: Vector) -> list[Vector]:
    return [size / 2 * (1, up, near) for up, near in product((-1, 1), repeat=2)]
