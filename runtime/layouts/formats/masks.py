"""COCO's masks: run lengths, column by column, as numbers or as its own text; and polygons."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw
from pydantic import BaseModel

from runtime.errors import FieldError
from runtime.messages import shown

MOST_PIXELS = 2**27  # of a mask: 11,000 a side
FINE = 4  # pixels that a polygon is drawn with for one of the mask's, along each side
LARGEST_DRAWN = 8192
FARTHEST = 1e6  # pixels from the corner


class Runs(BaseModel):
    """A mask as run lengths."""

    size: tuple[int, int]  # height and width
    counts: str | list[int]


def mask_of_runs(runs: Runs, image: tuple[int, int], where: str) -> np.ndarray | None:
    """The mask (H,W) of bool over an image (height, width); None of one that is empty.

    Raises:
        FieldError: the mask is of another size than the image, which it would be stretched to, or is damaged.
    """
    if runs.size != image:
        swapped = ", and seem to be swapped" if runs.size[::-1] == image else ""
        raise FieldError(
            where,
            f"its size is {shown([*runs.size], 30)}, and the image's {shown([*image], 30)}; both are height, "
            f"width{swapped}. Mend it, or give --place box",
        )
    mask = decode_runs(runs.size, runs.counts, where)
    return mask if mask.any() else None


def decode_runs(size: tuple[int, int], counts: str | Sequence[int], where: str) -> np.ndarray:
    """A mask (H,W) of bool from the lengths of its runs, which start with zeros and go down the columns.

    Raises:
        FieldError: the runs do not fill the mask.
    """
    height, width = size
    numbers = _numbers(counts, where) if isinstance(counts, str) else counts
    if min(size) < 1 or height * width > MOST_PIXELS:
        raise FieldError(
            where, f"a mask of {shown(width, 20)}x{shown(height, 20)} pixels is none; at most {MOST_PIXELS:,} are read"
        )
    if min(numbers, default=0) < 0 or sum(numbers) != height * width:
        raise FieldError(
            where, f"its runs have {shown(sum(numbers), 20)} pixels, and {width}x{height} are {height * width:,}"
        )
    lengths = np.array(numbers, dtype=np.int64)
    values = np.arange(len(lengths)) % 2 == 1
    return np.repeat(values, lengths).reshape(width, height).T


def _numbers(text: str, where: str) -> list[int]:
    """COCO's compressed text: 5 bits a character, the sixth saying that more follow; each number but the first
    three is the difference from the last but one."""
    numbers: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 30:
            raise FieldError(where, f"{character!r} is no character of COCO's run lengths; the mask is damaged")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        value -= (bits & 16) << (shift - 4)  # the last bit is the sign
        numbers.append(value + (numbers[-2] if len(numbers) > 2 else 0))
        value = shift = 0
    if shift:
        raise FieldError(where, "the mask's run lengths are cut off")
    return numbers


def draw_polygons(size: tuple[int, int], polygons: Sequence[Sequence[float]], where: str) -> np.ndarray:
    """A mask (H,W) of bool: the pixels that polygons, x0, y0, x1, y1, ..., cover by half or more.

    Raises:
        FieldError: a polygon has fewer than three points, or the mask is too large.
    """
    height, width = size
    fine = min(FINE, LARGEST_DRAWN // max(*size, 1))
    if not fine or min(size) < 1:
        raise FieldError(
            where,
            f"the image has {shown(width, 20)}x{shown(height, 20)} pixels; masks are drawn of at most {LARGEST_DRAWN} "
            "a side; give --place box",
        )
    image = Image.new("L", (fine * width, fine * height))
    drawing = ImageDraw.Draw(image)
    for polygon in polygons:
        if max(map(abs, polygon), default=0) > FARTHEST:
            raise FieldError(where, f"a polygon has {max(map(abs, polygon)):.3g}, which is no place")
        if len(polygon) < 6 or len(polygon) % 2:
            raise FieldError(where, f"a polygon of {len(polygon)} numbers is none; give x, y of three points or more")
        drawing.polygon([fine * number - 0.5 for number in polygon], fill=255)
    return np.asarray(image.reduce(fine)) >= 128
