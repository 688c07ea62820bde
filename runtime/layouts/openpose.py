"""OpenPose's people: read from its JSON files, and drawn as openpose ControlNets were trained to see them."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError, model_validator

from runtime.errors import FieldError
from runtime.layouts.geometry import Keypoint, Point

# COCO-18: nose, neck, right shoulder, elbow, wrist, the left ones, right hip, knee, ankle, the left ones, right eye,
# left eye, right ear, left ear. A limb has the colour of its place in this list, a keypoint that of its index.
LIMBS = (
    *((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7)),  # shoulders and arms
    *((1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13)),  # hips and legs
    *((1, 0), (0, 14), (14, 16), (0, 15), (15, 17)),  # head
)
COLORS = (
    *((255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0)),
    *((0, 255, 0), (0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255)),
    *((0, 0, 255), (85, 0, 255), (170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85)),
)
COCO_18_IN_BODY_25 = (*range(8), *range(9, 19))  # BODY_25 has the hips' middle at 8, and feet after the ears
LIMB_BRIGHTNESS = 0.6
# Half a limb's thickness and a dot's radius: OpenCV draws 4 pixels to either side of the middle one, where the shorter
# side of the picture is 512.
RADIUS, DRAWN_AT = 4.5, 512
LEAST_RADIUS = 0.75  # or a dot could fall between pixels' centres


class _Person(BaseModel):
    pose_keypoints_2d: list[float]


class _Frame(BaseModel):
    people: list[_Person]
    canvas_width: float | None = None
    canvas_height: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _only_frame(cls, data: Any) -> Any:
        """ComfyUI saves a list of frames."""
        return data[0] if isinstance(data, list) and len(data) == 1 else data


def read_openpose(path: Path | str, person: int = 0) -> list[Keypoint]:
    """A person's keypoints from OpenPose's JSON, in fractions of the canvas: 18 (COCO) or 25 (BODY_25).

    Where a coordinate is above 1, all are pixels of `canvas_width` and `canvas_height`. Confidence 0 means not seen.

    Raises:
        FieldError: the file is missing or damaged, lacks the person or the canvas, or a keypoint is outside it.
    """
    frame = _read_frame(Path(path))
    if not 0 <= person < len(frame.people):
        raise FieldError("person", f"{path} has {len(frame.people)} people; there is no person {person}")
    where = f"{path}: people.{person}.pose_keypoints_2d"
    values = frame.people[person].pose_keypoints_2d
    if len(values) not in (3 * 18, 3 * 25):
        raise FieldError("openpose", f"{where} has {len(values)} numbers; give x, y, confidence of 18 or 25 keypoints")
    triples = np.array(values).reshape(-1, 3)
    points, seen = triples[:, :2], triples[:, 2] > 0
    points = points / _canvas(frame, points[seen], where)
    outside = np.flatnonzero(seen & ((points < 0) | (points > 1)).any(axis=1))
    if outside.size:
        raise FieldError(
            "openpose", f"{where}: keypoint {outside[0]} is outside the picture: {values[outside[0] * 3 :][:2]}"
        )
    return [(float(x), float(y)) if visible else None for (x, y), visible in zip(points, seen, strict=True)]


def draw_people(people: Sequence[Sequence[Keypoint]], size: tuple[int, int]) -> np.ndarray:
    """Coloured limbs, over them keypoints, on black: uint8 (H,W,3) RGB. A person is 18 or 25 keypoints, size (H, W)."""
    canvas = np.zeros((*size, 3), dtype=np.uint8)
    radius = max(RADIUS * min(size) / DRAWN_AT, LEAST_RADIUS)
    bodies = [_scaled_coco_18(person, size) for person in people]
    for body in bodies:
        for (start, end), color in zip(LIMBS, COLORS, strict=False):  # one colour more than limbs
            if (a := body[start]) is not None and (b := body[end]) is not None:
                _fill_ellipse(canvas, a, b, radius, [int(LIMB_BRIGHTNESS * channel) for channel in color])
    for body in bodies:
        for point, color in zip(body, COLORS, strict=True):
            if point is not None:
                _fill_ellipse(canvas, point, point, radius, color)
    return canvas


def coco_18(keypoints: Sequence[Keypoint]) -> list[Keypoint]:
    """18 keypoints as they are, 25 without those that COCO-18 lacks."""
    return [keypoints[i] for i in COCO_18_IN_BODY_25] if len(keypoints) == 25 else list(keypoints)


def _read_frame(path: Path) -> _Frame:
    try:
        return _Frame.model_validate_json(path.read_bytes())
    except OSError as error:
        raise FieldError("openpose", f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        raise FieldError("openpose", f"{path}: {field}: {first['msg']}") from error


def _canvas(frame: _Frame, seen: np.ndarray, where: str) -> Point:
    """What to divide coordinates (N,2) by: the canvas's width and height if they are pixels, or else 1."""
    if not (seen > 1).any():
        return 1, 1
    if not (frame.canvas_width and frame.canvas_height):
        raise FieldError(
            "openpose",
            f"{where} is in pixels, of a picture of unknown size; add canvas_width and canvas_height to the file",
        )
    return frame.canvas_width, frame.canvas_height


def _scaled_coco_18(person: Sequence[Keypoint], size: tuple[int, int]) -> list[Keypoint]:
    height, width = size
    return [None if point is None else (point[0] * width, point[1] * height) for point in coco_18(person)]


def _fill_ellipse(canvas: np.ndarray, start: Point, end: Point, radius: float, color: Sequence[int]) -> None:
    """Colour the pixels with centres in the ellipse from start to end, `radius` to either side; a disc if they meet."""
    (x0, y0), (x1, y1) = start, end
    half = math.hypot(x1 - x0, y1 - y0) / 2
    angle, reach = math.atan2(y1 - y0, x1 - x0), max(half, radius)
    middle_x, middle_y = (x0 + x1) / 2, (y0 + y1) / 2
    rows, columns = (
        slice(max(math.floor(middle - reach), 0), math.ceil(middle + reach)) for middle in (middle_y, middle_x)
    )
    window = canvas[rows, columns]
    y = np.arange(window.shape[0])[:, None] + rows.start + 0.5 - middle_y
    x = np.arange(window.shape[1]) + columns.start + 0.5 - middle_x
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    window[(along / reach) ** 2 + (across / radius) ** 2 <= 1] = color
