"""OpenPose's people: read from its JSON files, and drawn as openpose ControlNets were trained to see them."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel, Field, model_validator

from runtime.errors import FieldError, RealCompoError
from runtime.json_text import decoded, parse_json, validated
from runtime.layouts.geometry import Keypoint, Point
from runtime.layouts.keypoints import check_distance, check_origin, in_pixels, not_seen

T = TypeVar("T")

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
# COCO-17: nose, left eye, right eye, left ear, right ear, then left before right: shoulders, elbows, wrists, hips,
# knees, ankles. It has no neck, which OpenPose puts halfway between the shoulders.
COCO_18_IN_COCO_17 = (0, None, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
SHOULDERS_OF_COCO_17 = (5, 6)
WRITTEN = (18, 25)  # keypoints of a person in OpenPose's files
LIMB_BRIGHTNESS = 0.6
MIDDLE = 0.5  # pixels: OpenCV draws so many to either side of the middle one
DRAWN_AT = 512  # pixels of the shorter side, where a thin limb has 4 to either side
THIN, THICK = "thin", "thick"


def _thin(size: tuple[int, int]) -> float:
    """As the authors' annotator draws at 512 pixels, and in proportion elsewhere."""
    return (4 + MIDDLE) * min(size) / DRAWN_AT


def _thick(size: tuple[int, int]) -> float:
    """As xinsir's checkpoints for SDXL were trained: 4 pixels times a whole number that the longer side tells."""
    longest = max(size)
    return 4 * (1 if longest < 500 else min(2 + longest // 1000, 7)) + MIDDLE


# Half a limb's thickness and a dot's radius in pixels, by a picture's (height, width)
PENS: dict[str, Callable[[tuple[int, int]], float]] = {THIN: _thin, THICK: _thick}
FEW = 6  # seen points, below which they do not tell their unit alone
LEAST_RADIUS = 0.75  # or a dot could fall between pixels' centres


class Person(BaseModel):
    """Someone in a frame: x, y and confidence of each keypoint; None of whom no body is seen, but a hand or a face."""

    pose_keypoints_2d: list[float | None] | None


class Frame(BaseModel):
    """What OpenPose and DWPose write of one picture."""

    people: list[Person]
    canvas_width: float | None = Field(None, ge=0)  # 0: not known
    canvas_height: float | None = Field(None, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _as_openpose_has_it(cls, data: Any) -> Any:
        is_edited = isinstance(data, dict) and "people" not in data and "keypoints" in data
        return _of_editor(data) if is_edited else data


def _of_editor(data: dict[str, Any]) -> dict[str, Any]:
    """openpose-editor's width, height and keypoints, 18 points [x, y] a person, as OpenPose has them."""
    points = data["keypoints"]
    if not isinstance(points, list) or not points:
        raise ValueError("keypoints is no list of points [x, y]")
    if isinstance(points[0], list) and points[0] and isinstance(points[0][0], list):
        people = points
    elif len(points) % 18:
        raise ValueError(f"it has {len(points)} keypoints; give 18 a person")
    else:
        people = [points[i : i + 18] for i in range(0, len(points), 18)]
    flat = [
        {"pose_keypoints_2d": [number for point in _list(person) for number in _triple(point)]} for person in people
    ]
    return {"people": flat, "canvas_width": data.get("width"), "canvas_height": data.get("height")}


def _list(person: Any) -> list[Any]:
    if not isinstance(person, list):
        raise ValueError("keypoints has a person who is no list of points")
    return person


def _triple(point: Any) -> list[Any]:
    if point is None:
        return [0, 0, 0]
    if not isinstance(point, list) or len(point) != 2:
        raise ValueError("keypoints has one that is no [x, y]")
    return [*point, 1]


def read_openpose(path: Path | str, person: int = 0, frame: int | None = None) -> list[Keypoint]:
    """A person's keypoints from OpenPose's JSON, in fractions of the canvas: 18 (COCO) or 25 (BODY_25).

    A file of several frames needs the number of one. Where most of the person's coordinates are too large for
    fractions, all are pixels of `canvas_width` and `canvas_height`. Confidence 0, null, (0, 0) and (-1, -1) mean not
    seen. A point outside the canvas stays there.

    Raises:
        FieldError: the file is missing or damaged, lacks the person, frame or canvas, or a keypoint is no place.
    """
    return keypoints_of(_read_frame(Path(path), frame), person, f"{path}")


def keypoints_of(frame: Frame, person: int, name: str) -> list[Keypoint]:
    """As `read_openpose`, of a frame of that name.

    Raises:
        FieldError: it lacks the person or the canvas, or a keypoint is no place.
    """
    if not 0 <= person < len(frame.people):
        raise FieldError("person", f"{name} has {len(frame.people)} people; there is no person {person}")
    where = f"{name}: people.{person}.pose_keypoints_2d"
    if frame.people[person].pose_keypoints_2d is None:
        raise FieldError("person", f"{where} is null: no body was seen of that person; give another")
    body = _triples(frame.people[person], where)
    seen = _seen(body)
    points = body[:, :2] / _canvas(frame, _of_its_unit(frame, body[seen, :2]), where)
    check_distance(points[seen], "openpose", where)
    return [(x, y) if visible else None for (x, y), visible in zip(points.tolist(), seen, strict=True)]


def _triples(person: Person, where: str) -> np.ndarray:
    """x, y and confidence of each keypoint: (18 or 25, 3); NaN where the file has null."""
    values = np.array(person.pose_keypoints_2d or (), dtype=np.float64)
    if len(values) not in [3 * count for count in WRITTEN]:
        raise FieldError("openpose", f"{where} has {len(values)} numbers; give x, y, confidence of 18 or 25 keypoints")
    return values.reshape(-1, 3)


def _of_its_unit(frame: Frame, seen: np.ndarray) -> np.ndarray:
    """Points (N,2) that tell the unit of a person's seen ones: those alone, or with everybody's if they are few."""
    if len(seen) >= FEW:
        return seen
    bodies = [
        _triples(one, f"people.{i}.pose_keypoints_2d") for i, one in enumerate(frame.people) if one.pose_keypoints_2d
    ]
    return np.concatenate([body[_seen(body), :2] for body in bodies])


def _seen(body: np.ndarray) -> np.ndarray:
    return np.isfinite(body).all(axis=1) & (body[:, 2] > 0) & ~not_seen(body[:, :2])


def draw_people(people: Sequence[Sequence[Keypoint]], size: tuple[int, int], pen: str = THIN) -> np.ndarray:
    """Coloured limbs, over them keypoints, on black: uint8 (H,W,3) RGB. A person is 18 or 25 keypoints, size (H, W),
    and the pen one of `PENS`."""
    canvas = np.zeros((*size, 3), dtype=np.uint8)
    radius = max(PENS[pen](size), LEAST_RADIUS)
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
    """18 keypoints as they are, 25 without those that COCO-18 lacks, COCO's own 17 in its order and with a neck."""
    if len(keypoints) == 25:
        return [keypoints[i] for i in COCO_18_IN_BODY_25]
    if len(keypoints) != 17:
        return list(keypoints)
    neck = _middle(*(keypoints[i] for i in SHOULDERS_OF_COCO_17))
    return [neck if i is None else keypoints[i] for i in COCO_18_IN_COCO_17]


def _middle(a: Keypoint, b: Keypoint) -> Keypoint:
    """None where either is not seen."""
    return None if a is None or b is None else ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2)


def _read_frame(path: Path, number: int | None) -> Frame:
    with _of_file(path):
        frames = parse_json(decoded(path.read_bytes()))
    frame = chosen_frame(frames if isinstance(frames, list) else [frames], number, "the file")
    with _of_file(path):
        return validated(Frame, frame)


@contextmanager
def _of_file(path: Path) -> Iterator[None]:
    """Say of what is wrong in the file that it is the region's openpose."""
    try:
        yield
    except OSError as error:
        raise FieldError("openpose", f"cannot read {path}: {error.strerror}") from error
    except RealCompoError as error:
        raise FieldError("openpose", f"{path}: {error}") from error


def chosen_frame(frames: Sequence[T], number: int | None, name: str) -> T:
    """One of a list of frames, as ComfyUI and its DWPose save them; one alone needs no number.

    Raises:
        FieldError: there are several and no number, or none of that number.
    """
    if number is None and len(frames) != 1:
        raise FieldError("frame", f"{name} has {len(frames)} frames; say which in the region's frame, from 0")
    if number is not None and not 0 <= number < len(frames):
        raise FieldError("frame", f"{name} has {len(frames)} frames; there is no frame {number}")
    return frames[number or 0]


def _canvas(frame: Frame, seen: np.ndarray, where: str) -> Point:
    """What to divide coordinates by, told from seen points (N,2): the canvas's size if they are pixels, or 1."""
    if not in_pixels(seen):
        check_origin(seen, "openpose", where)
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
        slice(max(math.floor(middle - reach), 0), max(math.ceil(middle + reach), 0)) for middle in (middle_y, middle_x)
    )
    window = canvas[rows, columns]
    y = np.arange(window.shape[0])[:, None] + rows.start + 0.5 - middle_y
    x = np.arange(window.shape[1]) + columns.start + 0.5 - middle_x
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    window[(along / reach) ** 2 + (across / radius) ** 2 <= 1] = color
