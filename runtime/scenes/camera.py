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
    back = np.subtract(camera.position, camera.look_at) * (1, 0, 1)
    if np.linalg.norm(back) < 1e-9:  # it looks straight down or up
        return np.eye(3)
    back = back / np.linalg.norm(back)
    return np.stack([np.cross(UPRIGHT, back), UPRIGHT, back])


def view_of(camera: Camera, size: tuple[int, int]) -> View:
    """The camera before a picture of (H, W)."""
    position = np.array(camera.position, dtype=np.float64)
    back = position - camera.look_at
    back /= np.linalg.norm(back)
    right = ground_axes(camera)[0]
    height, width = size
    half = math.tan(math.radians(camera.field_of_view) / 2)
    return View(position, np.stack([right, np.cross(back, right), back]), np.array([half * width / height, half]))


def framing(points: Points, size: tuple[int, int]) -> Camera:
    """A camera from which the points fill a picture of (H, W)."""
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    far = 100 * float(np.linalg.norm(np.ptp(points, axis=0)))
    near = 0.0
    for _ in range(HALVINGS):
        distance = (near + far) / 2
        near, far = (near, distance) if _fits(points, _before(middle, distance), size) else (distance, far)
    return _before(middle, far)


def _before(middle: NDArray[np.float64], distance: float) -> Camera:
    down = math.radians(ELEVATION)
    x, y, z = (float(one) for one in middle + distance * np.array([0, math.sin(down), math.cos(down)]))
    return Camera((x, y, z), (float(middle[0]), float(middle[1]), float(middle[2])), FIELD_OF_VIEW)


def _fits(points: Points, camera: Camera, size: tuple[int, int]) -> bool:
    view = view_of(camera, size)
    if view.distances(points).min() <= 0:
        return False
    return bool(np.abs(view.project(points) - 0.5).max() <= FILLED / 2)
