"""Boxes in a layout file that are plainly not corners in fractions: refused with the command that mends them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from runtime.errors import RealCompoError
from runtime.layouts.formats.boxes import FORMS, MEANINGS, fit, look_like_pixels
from runtime.layouts.formats.converting import working_request
from runtime.layouts.formats.mending import placed
from runtime.layouts.formats.source import Source
from runtime.layouts.geometry import Box


def check_boxes(boxes: Sequence[Box | None], path: Path) -> None:
    """Raises: RealCompoError: the boxes are pixels, run from 0 to 1000, or have a width and a height; where a single
    box is out of line, its region says so."""
    given = [i for i, box in enumerate(boxes) if box is not None]
    values = np.array([boxes[i] for i in given], dtype=np.float64).reshape(-1, 4)
    wrong = ~fit(values)
    if not wrong.any():
        return
    i = int(wrong.argmax())
    where = f"{path}: regions.{given[i]}.box: [{', '.join(f'{edge:g}' for edge in values[i])}]"
    if look_like_pixels(values):
        raise RealCompoError(
            f"{where} is no fraction of the image: pixels, or 0 to 1000. Mend it, with the size that boxes count in: "
            f"{_command(path)}"
        )
    if fit(FORMS["xywh"](values)).all():
        raise RealCompoError(
            f"{where} is empty as x0, y0, x1, y1, and all boxes fit as x, y, width, height. If they are that: "
            f"{_command(path)}"
        )


def other_boxes(path: Path) -> str:
    """What to run on a file whose boxes are called bbox, which may be anything; empty where its boxes are no help."""
    try:
        request = working_request(Source.open(path), "layout")
    except RealCompoError:
        return ""
    return f" If they are {MEANINGS[request.choices.boxes or 'xyxy']}: {request.command()}"


def _command(path: Path) -> str:
    """What converts the file; refused where something else in it is wrong too."""
    try:
        return working_request(Source.open(path), "layout").command()
    except RealCompoError as error:
        raise RealCompoError(f"{path}: {placed(error)}") from error
