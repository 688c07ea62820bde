"""What `report` shows of one result."""

import base64
from dataclasses import dataclass
from io import BytesIO

from PIL import Image

from benchmarks.figures import DPI
from benchmarks.grids import Grid

CSS_DPI = 96


@dataclass(frozen=True)
class Key:
    """One figure that the reader should take away."""

    value: str
    meaning: str


@dataclass(frozen=True)
class Picture:
    caption: str
    image: str  # data URI
    width: int  # on the page; it has more pixels, for fine screens


@dataclass(frozen=True)
class Section:
    title: str
    about: str
    keys: tuple[Key, ...] = ()
    figure: Picture | None = None
    pictures: tuple[Picture, ...] = ()  # below the figure, each under its caption
    grids: tuple[Grid, ...] = ()
    details: tuple[Grid, ...] = ()  # folded away
    note: str = ""


def embed(caption: str, png: bytes) -> Picture:
    width = Image.open(BytesIO(png)).width * CSS_DPI // DPI
    return Picture(caption, "data:image/png;base64," + base64.b64encode(png).decode(), width)
