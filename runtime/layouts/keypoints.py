"""What a pose's numbers mean: which points are seen, and in which unit they are."""

from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from runtime.errors import FieldError
from runtime.layouts.geometry import Box, Keypoint

BODIES = (17, 18, 25)  # keypoints of COCO itself, of OpenPose's COCO, which adds the neck, and of BODY_25
SENTINELS = ((0, 0), (-1, -1))  # what tools write for a point that is not seen
PIXELS_FROM = 1.5  # half of a person's coordinates are below this in fractions, and above it in pixels
CENTRED = 0.3  # a pose has more coordinates than this share below 0 where they run from -1 to 1,
NARROW = 0.25  # and half of them farther apart than this; else it is a small person at the image's edge
FARTHEST = 1e6  # images from the middle; what is beyond is no place


def not_seen(points: np.ndarray) -> np.ndarray:
    """Which of the points (N,2) are sentinels: (N,)."""
    return np.any([(points == sentinel).all(axis=1) for sentinel in SENTINELS], axis=0)


def in_pixels(points: np.ndarray) -> bool:
    """Whether most coordinates of the seen points (N,2) are too large for fractions: a few may be anywhere."""
    return points.size > 0 and bool(np.median(np.abs(points)) > PIXELS_FROM)


def check_origin(points: np.ndarray, field: str, name: str) -> None:
    """Raises: FieldError: the seen points (N,2), in fractions, are hardly told from the image's top left."""
    if points.size and (points < 0).mean() > CENTRED and _spread(points) > NARROW:
        raise FieldError(field, f"{name} seems to run from -1 to 1; give fractions of the image, 0 to 1")


def _spread(points: np.ndarray) -> float:
    """How far apart the middle half of all coordinates is."""
    low, high = np.percentile(points, [25, 75])
    return float(high - low)


def check_distance(points: np.ndarray, field: str, name: str) -> None:
    """Raises: FieldError: one of the seen points (N,2), in fractions, is no place."""
    if points.size and np.abs(points).max() > FARTHEST:
        raise FieldError(field, f"{name} has a coordinate of {np.abs(points).max():.3g}; mend that keypoint")


def clean(keypoints: Sequence[Keypoint], phrase: str) -> tuple[Keypoint, ...]:
    """A region's keypoints, with None for sentinels.

    Raises:
        FieldError: none is seen, they are not fractions, or a sentinel may be a corner.
    """
    given = [i for i, point in enumerate(keypoints) if point is not None]
    points = _array([keypoints[i] for i in given], phrase)
    unseen = not_seen(points)
    if unseen.any() and len(keypoints) not in BODIES:
        _refuse_sentinel(given[int(unseen.argmax())], points[unseen][0], phrase)
    _check_seen(points[~unseen], phrase)
    seen = {i: (x, y) for i, (x, y), absent in zip(given, points.tolist(), unseen, strict=True) if not absent}
    return tuple(seen.get(i) for i in range(len(keypoints)))


def _refuse_sentinel(i: int, point: np.ndarray, phrase: str) -> NoReturn:
    raise FieldError(
        "keypoints",
        f"keypoint {i} of {phrase!r} is {point.tolist()}, which often means not seen; write null, or for a corner a "
        "number beside it",
    )


def _check_seen(seen: np.ndarray, phrase: str) -> None:
    if not len(seen):
        raise FieldError("keypoints", f"the keypoints of {phrase!r} are all unseen; give at least one of them seen")
    if in_pixels(seen):
        raise FieldError(
            "keypoints", f"the keypoints of {phrase!r} seem to be pixels; give fractions of the image, 0 to 1"
        )
    for check in (check_distance, check_origin):
        check(seen, "keypoints", f"the pose of {phrase!r}")


def box_around(keypoints: Sequence[Keypoint]) -> Box:
    """The part inside the image of the box around the seen points."""
    points = np.array([point for point in keypoints if point is not None], dtype=np.float64).clip(0, 1)
    (x0, y0), (x1, y1) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return x0, y0, x1, y1


def _array(points: Sequence[Keypoint], phrase: str) -> np.ndarray:
    try:
        array = np.array(points, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.ndim != 2 or array.shape[1] != 2 or not np.isfinite(array).all():
        raise FieldError(
            "keypoints", f"the keypoints of {phrase!r} are not a list of (x, y), at least one of them seen"
        )
    return array
