"""ComfyUI's boxes to layouts: BOUNDING_BOX, which is a box, a list of them, or such a list for each image; and the
elements of its box editor."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel

from runtime import Layout, RealCompoError, Region
from runtime.errors import FieldError
from runtime.json_text import read_json
from runtime.layouts.formats.boxes import FORMS, SLACK
from runtime.layouts.formats.comfyui import NAMES, THOUSANDTHS
from runtime.layouts.formats.kind import Size
from runtime.layouts.formats.parts import Four, Side, each, has, part
from runtime.layouts.formats.phrases import words_of
from runtime.layouts.geometry import Box
from runtime.serving.inline import InlineLayout, Pixels, read_layout

MOST_PIXELS = 2**26  # of pictures within a layout's text


class _Pixels(BaseModel):
    """A BOUNDING_BOX."""

    x: float
    y: float
    width: Side
    height: Side


class _Element(BaseModel):
    """Of the box editor: top, left, bottom, right in thousandths."""

    bbox: Four


def read_boxes(value: Any, size: Size, prompt: str, phrases: Sequence[str]) -> list[Layout]:
    """The layout of each image that boxes are for; of a plain list there is one, for all images.

    Args:
        size: width and height of what pixels count in.
        phrases: the objects' words in the boxes' order, instead of the boxes' own names.

    Raises:
        RealCompoError: a box without a name, one that leaves the picture, or one that is none.
    """
    return [Layout(_regions(frame, size, prompt, phrases)) for frame in _frames(value)]


def read_text(text: str) -> Layout:
    """A layout.json's text; its pictures are PNG in base64, and a path is never read.

    Raises:
        RealCompoError: no such text, or a field is wrong; the message names it.
    """
    try:
        inline = read_json(InlineLayout, text.encode())
    except RealCompoError as error:  # which names the field
        raise RealCompoError(f"layout: {error}") from error
    try:
        return read_layout(inline, Pixels(MOST_PIXELS, MOST_PIXELS))
    except FieldError as error:
        raise RealCompoError(f"layout: {error.field}: {error}") from error


def _frames(value: Any) -> list[list[Any]]:
    boxes = each(value)
    return boxes if boxes and all(isinstance(one, list) for one in boxes) else [boxes]


def _regions(frame: Sequence[Any], size: Size, prompt: str, phrases: Sequence[str]) -> list[Region]:
    if phrases and len(phrases) != len(frame):
        raise RealCompoError(f"{len(phrases)} phrases for {len(frame)} boxes; write one a line, in the boxes' order")
    return [
        Region(phrases[i] if phrases else _name(box, i, prompt), box=_corners(box, i, size))
        for i, box in enumerate(frame)
    ]


def _name(box: Any, i: int, prompt: str) -> str:
    """What nodes call it, and of several names the one that the prompt has."""
    own = [box.get(name) for name in NAMES] if isinstance(box, dict) else []
    found = words_of(prompt, *(name for name in own if isinstance(name, str)))
    if not found:
        raise RealCompoError(f"box {i + 1} has no name; write the objects' phrases one a line, in the boxes' order")
    return found


def _numbers(box: Any, size: Size) -> tuple[Four, str, Size]:
    """Four numbers, what they are, and what they count in."""
    if has(box, "bbox"):
        return part(_Element, box, "").bbox, "yxyx", THOUSANDTHS
    one = part(_Pixels, box, "")
    return (one.x, one.y, one.width, one.height), "xywh", size


def _corners(box: Any, i: int, size: Size) -> Box:
    where = f"box {i + 1}"
    try:
        numbers, form, unit = _numbers(box, size)
    except FieldError as error:
        raise RealCompoError(f"{where}: {error}") from error
    corners = FORMS[form](np.array([numbers])) / (*unit, *unit)
    if not (corners.min() >= -SLACK and corners.max() <= 1 + SLACK):
        raise RealCompoError(
            f"{where} leaves the picture: it ends at {corners[0, 2] * size[0]:g}, {corners[0, 3] * size[1]:g} of "
            f"{size[0]:g}x{size[1]:g}; set boxes_width and boxes_height to the size that its pixels count in"
        )
    x0, y0, x1, y1 = corners.clip(0, 1)[0].tolist()
    return x0, y0, x1, y1
