"""Boxes in other conventions: four numbers in some order and unit, to corners in fractions of the image."""

from collections.abc import Callable, Sequence

import numpy as np

from runtime.errors import FieldError
from runtime.layouts.formats.kind import FRACTIONS, AnySize, Request, Scene, Size, shown_size
from runtime.layouts.formats.mending import Unsaid
from runtime.layouts.geometry import Box

# What four numbers mean, and how they become x0, y0, x1, y1: (N,4) to (N,4)
FORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "xyxy": lambda boxes: boxes,  # left, top, right, bottom
    "xywh": lambda boxes: np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]),  # left, top, width, height
    "yxyx": lambda boxes: boxes[:, [1, 0, 3, 2]],  # top, left, bottom, right: Gemini's and Ideogram's
    "cxcywh": lambda boxes: np.hstack([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2]),  # YOLO's
}
MEANINGS = {
    "xyxy": "left, top, right, bottom",
    "xywh": "left, top, width, height",
    "yxyx": "top, left, bottom, right",
    "cxcywh": "the middle, width and height",
}
LIKELY = ("xyxy", "xywh")  # what is taken for one another
PIXELS_FROM = 2  # most boxes have a coordinate above it in pixels, and none in fractions
FARTHEST = 1e9  # of any unit
SLACK = 0.02  # of the image, by which tools' boxes leave it for rounding


def look_like_pixels(boxes: np.ndarray) -> bool:
    """Whether most boxes (N,4) have a coordinate that is too large for fractions."""
    return len(boxes) > 0 and bool((np.abs(boxes).max(axis=1) > PIXELS_FROM).mean() > 0.5)


def fit(corners: np.ndarray) -> np.ndarray:
    """Which boxes (N,4), in corners and fractions, are not empty and within the image: (N,)."""
    full = (corners[:, 2:] > corners[:, :2]).all(axis=1)
    return full & (corners.min(axis=1) >= -SLACK) & (corners.max(axis=1) <= 1 + SLACK)


def place_boxes(scene: Scene, request: Request) -> tuple[list[Box | None], int]:
    """Each object's box in fractions, cut at the image's edge, or None; and of how many something was cut.

    Raises:
        FieldError: the boxes' form or unit is not known, or is plainly another, or a box is empty or outside.
    """
    given = [i for i, thing in enumerate(scene.things) if thing.box is not None]
    if not given:
        return [None] * len(scene.things), 0
    values = np.array([scene.things[i].box for i in given], dtype=np.float64)
    wheres = [scene.things[i].where for i in given]
    corners = _corners(values, scene, request, wheres)
    inside = corners.clip(0, 1)
    _check_inside(inside, values, wheres)
    boxes = dict(zip(given, map(_box, inside), strict=True))
    cut = int((np.abs(inside - corners).max(axis=1) > SLACK).sum())
    return [boxes.get(i) for i in range(len(scene.things))], cut


def size_of(scene: Scene, request: Request, values: np.ndarray) -> Size:
    """What coordinates (N,.) are to be divided by.

    Raises:
        FieldError: nothing says it, or the file says another one.
    """
    asked = request.choices.size
    said = scene.size if scene.is_said and scene.size != FRACTIONS else None
    if asked and said and asked not in (said, FRACTIONS):
        raise FieldError("", f"the file says {shown_size(said)}, not {shown_size(asked)}; leave --size out")
    if asked or scene.size:
        return asked or scene.size or FRACTIONS
    if values.size and np.abs(values).max() <= 1:
        return FRACTIONS
    raise Unsaid("", "it does not say of which size the picture is. Add that:", [_any_size(values)])


def _corners(values: np.ndarray, scene: Scene, request: Request, wheres: Sequence[str]) -> np.ndarray:
    if np.abs(values).max() > FARTHEST:
        i = int(np.abs(values).max(axis=1).argmax())
        raise FieldError(wheres[i], f"{_shown(values[i])} is no place; mend that box")
    form = request.choices.boxes or scene.form
    width, height = size = size_of(scene, request, values)
    _check_unit(values, size, wheres)
    if form is None:
        forms = scene.forms or tuple(FORMS)
        raise Unsaid(
            "",
            f"it does not say what its boxes' four numbers are: {', '.join(forms)}. Say it, as in:",
            _guesses(forms, values, size),
        )
    read = {name: FORMS[name](values) / (width, height, width, height) for name in {form, *LIKELY}}
    if request.choices.boxes is None:
        _check_form(form, read, values, wheres)
    return read[form]


def _check_unit(values: np.ndarray, size: Size, wheres: Sequence[str]) -> None:
    if size == FRACTIONS and look_like_pixels(values):
        i = int(values.max(axis=1).argmax())
        raise Unsaid(
            wheres[i],
            f"{_shown(values[i])} is no fraction of the image. If boxes are pixels, or run from 0 to 1000, give the "
            "size that they count in:",
            [_any_size(values)],
        )
    if min(size) > PIXELS_FROM and np.abs(values).max() <= 1:
        raise Unsaid(
            wheres[0],
            f"{_shown(values[0])} seems to be fractions, not pixels of {shown_size(size)}. If so:",
            [{"size": FRACTIONS}],
        )


def _check_form(form: str, read: dict[str, np.ndarray], values: np.ndarray, wheres: Sequence[str]) -> None:
    """Refuse boxes of which one cannot be of the form while all can be of another."""
    wrong = ~fit(read[form])
    others = [name for name in LIKELY if name != form and fit(read[name]).all()]
    if wrong.any() and others:
        i = int(wrong.argmax())
        problem = "leaves the image" if (read[form][i, 2:] > read[form][i, :2]).all() else "is empty"
        raise Unsaid(
            wheres[i],
            f"{_shown(values[i])} {problem} as {form}, and all boxes fit as {others[0]}. If they are that:",
            [{"boxes": others[0]}],
        )


def _check_inside(inside: np.ndarray, values: np.ndarray, wheres: Sequence[str]) -> None:
    empty = (inside[:, 2:] <= inside[:, :2]).any(axis=1)
    if empty.any():
        i = int(empty.argmax())
        raise FieldError(wheres[i], f"{_shown(values[i])} has nothing inside the image; mend that box")


def _guesses(forms: Sequence[str], values: np.ndarray, size: Size) -> list[dict[str, str]]:
    """Forms, those first as which all boxes fit."""
    width, height = size
    corners = {form: FORMS[form](values) / (width, height, width, height) for form in forms}
    return [{"boxes": form} for form in sorted(forms, key=lambda form: not fit(corners[form]).all())]


def _any_size(values: np.ndarray) -> dict[str, Size]:
    side = 2 * max(float(np.abs(values).max(initial=0)), PIXELS_FROM)
    return {"size": AnySize((side, side))}


def _shown(box: np.ndarray) -> str:
    return f"[{', '.join(f'{number:g}' for number in box.tolist())}]"


def _box(corners: np.ndarray) -> Box:
    x0, y0, x1, y1 = corners.tolist()
    return x0, y0, x1, y1
