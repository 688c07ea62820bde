"""The pinhole camera: from points in the world to places in the picture, and from pixels to rays."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.scenes.parts import Camera
from runtime.scenes.shapes import Points

ELEVATION = 18.0  # degrees that a camera looks down where none is given
FIELD_OF_VIEW = 40.0  # degrees of its picture's height
FILLED = 0.86  # of its picture's height or width by the objects
HALVINGS = 50  # of the distances it may have
UPRIGHT = np.array([0.0, 1.0, 0.0])

Point = NDArray[np.float64]  # (3,)
Axes = NDArray[np.float64]  # (3,3): a row each for right, up and nearer


@dataclass(frozen=True, eq=False)
class View:
    """A camera before its picture.

    Args:
        position: (3,) metres.
        axes: of the camera.
        half: (width, height) halved of what the picture shows a metre before the camera, in metres.
    """

    position: NDArray[np.float64]
    axes: Axes
    half: NDArray[np.float64]

    def distances(self, points: Points) -> NDArray[np.float64]:
        """(n,): metres before the camera, along its line of sight; negative behind it."""
        return (self.position - points) @ self.axes[2]

    def project(self, points: Points) -> NDArray[np.float64]:
        """(n,2): fractions of the picture, origin top left, of points before the camera."""
        across = (points - self.position) @ self.axes[:2].T
        return 0.5 + across / (2 * self.half * self.distances(points)[:, None]) * (1, -1)

    def rays(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """(H,W,3): what a pixel's middle shows, a metre along the line of sight from the camera. `size` is (H, W)."""
        height, width = size
        right = (np.arange(width) + 0.5) / width * 2 - 1
        up = 1 - (np.arange(height) + 0.5) / height * 2
        across = right[None, :, None] * self.half[0] * self.axes[0] + up[:, None, None] * self.half[1] * self.axes[1]
        return across - self.axes[2]


def ground_axes(camera: Camera | None) -> Axes:
    """Right, up and nearer as one who stands upright sees them: the axes of relations."""
    if camera is None:
        return np.eye(3)
    right = _right(np.subtract(camera.position, camera.look_at))
    return np.stack([right, UPRIGHT, np.cross(right, UPRIGHT)])


def _right(back: Point) -> Point:
    """(3,) level and of length 1; x where one looks straight down or up."""
    level = back * (1, 0, 1)
    if np.linalg.norm(level) < 1e-9 * np.linalg.norm(back):
        return np.array([1.0, 0.0, 0.0])
    return np.cross(UPRIGHT, level / np.linalg.norm(level))


def view_of(camera: Camera, size: tuple[int, int]) -> View:
    """The camera before a picture of (H, W)."""
    return _view(np.array(camera.position, dtype=np.float64), np.array(camera.look_at), camera.field_of_view, size)


def _view(position: Point, look_at: Point, field_of_view: float, size: tuple[int, int]) -> View:
    back = (position - look_at) / np.linalg.norm(position - look_at)
    right = _right(back)
    height, width = size
    half = math.tan(math.radians(field_of_view) / 2)
    return View(position, np.stack([right, np.cross(back, right), back]), np.array([half * width / height, half]))


def framing(points: Points, size: tuple[int, int]) -> View:
    """Of a camera from which the points fill a picture of (H, W)."""
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    far = 100 * float(np.linalg.norm(np.ptp(points, axis=0)))
    near = 0.0
    for _ in range(HALVINGS):
        distance = (near + far) / 2
        near, far = (near, distance) if _fits(points, _before(middle, distance, size)) else (distance, far)
    return _before(middle, far, size)


def _before(middle: Point, distance: float, size: tuple[int, int]) -> View:
    down = math.radians(ELEVATION)
    away = distance * np.array([0, math.sin(down), math.cos(down)])
    return _view(middle + away, middle, FIELD_OF_VIEW, size)


def _fits(points: Points, view: View) -> bool:
    if view.distances(points).min() <= 0:
        return False
    return bool(np.abs(view.project(points) - 0.5).max() <= FILLED / 2)
