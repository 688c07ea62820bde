"""Boxes in a layout file that are plainly not corners in fractions: refused with the command that mends them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from runtime.errors import RealCompoError
from runtime.layouts.formats.boxes import FORMS, fit, look_like_pixels
from runtime.layouts.formats.kind import ANY_SIZE, Choices, convert_command
from runtime.layouts.geometry import Box


def check_boxes(boxes: Sequence[Box | None], path: Path) -> None:
    """Raises: RealCompoError: the boxes are pixels, run from 0 to 1000, or have a width and a height; where a single
    box is out of line, its region says so."""
    given = [i for i, box in enumerate(boxes) if box is not None]
    values = np.array([boxes[i] for i in given], dtype=np.float64).reshape(-1, 4)
    wrong = ~fit(values)
    if not wrong.any():
        return
    form = "xywh" if (values[:, 2:] <= values[:, :2]).any() else "xyxy"  # a corner below another is none
    i = int(wrong.argmax())
    where = f"{path}: regions.{given[i]}.box: [{', '.join(f'{edge:g}' for edge in values[i])}]"
    if look_like_pixels(values):
        command = convert_command(path, "layout", Choices(boxes=form), ANY_SIZE)
        raise RealCompoError(
            f"{where} is no fraction of the image: pixels, or 0 to 1000. Mend it, with the size that boxes count in: "
            f"{command}"
        )
    if form == "xywh" and fit(FORMS["xywh"](values)).all():
        command = convert_command(path, "layout", Choices(boxes=form))
        raise RealCompoError(
            f"{where} is empty as x0, y0, x1, y1, and all boxes fit as x, y, width, height. If they are that: {command}"
        )


def other_boxes(path: Path) -> str:
    """What to run on a file whose boxes are called bbox, which in other tools mostly have a width and a height."""
    command = convert_command(path, "layout", Choices(boxes="xywh"))
    return f"Of boxes that have a width and a height: {command}"
