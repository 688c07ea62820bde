"""What a tool's layout file is to the converter: objects in the file's own numbers, and how those are to be read."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from runtime.layouts.formats.source import Source
from runtime.layouts.geometry import Keypoint

Size = tuple[float, float]  # width and height of what coordinates count in
FRACTIONS: Size = (1, 1)
ANY_SIZE = "--size WIDTHxHEIGHT"  # in a command whose user knows it


@dataclass(frozen=True, eq=False)
class Thing:
    """An object as the file has it: coordinates in the unit of its scene's size, a mask (H,W) of bool."""

    where: str  # the field it stands in
    phrase: str | None = None
    box: Sequence[float] | None = None  # in its scene's form
    mask: np.ndarray | None = None
    keypoints: Sequence[Keypoint] | None = None
    tokens: Sequence[int] | None = None
    label: int | str | None = None


@dataclass(frozen=True, eq=False)
class Scene:
    """What a file has of one picture.

    Args:
        form: of its boxes, one of `boxes.FORMS`; None where nothing says it.
        size: of what coordinates count in: pixels, or FRACTIONS; None where nothing says it.
        is_said: whether the file itself says the size, rather than its tool's manual.
        notes: what of the file no layout holds, for a warning.
    """

    things: Sequence[Thing]
    prompt: str | None
    form: str | None
    size: Size | None
    is_said: bool = False
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Entry:
    """One of a file's pictures: what it may be asked for by, and how it is read."""

    names: Sequence[str]
    scene: Callable[[], Scene]


@dataclass(frozen=True)
class Format:
    """A tool's files.

    Args:
        title: with its article, as in "a COCO file".
        recognises: whether a file can be nothing else.
        entries: a file's pictures; raises RealCompoError where it is not of this format.
    """

    title: str
    recognises: Callable[[Source], bool]
    entries: Callable[[Source], Sequence[Entry]]


@dataclass(frozen=True)
class Choices:
    """What a file does not say, or has several of.

    Args:
        entry: which of the file's pictures: a name or number of COCO's, or a place in its list, from 0.
        size: width and height of the image in pixels; (1, 1) of fractions, (1000, 1000) of 0 to 1000.
        boxes: the boxes' form, one of `boxes.FORMS`.
        place: which place is taken of objects that have several: box, mask or keypoints.
        phrases: the objects' phrases in the file's order, instead of the file's.
        prompt: what to draw, instead of the file's.
    """

    entry: str | int | None = None
    size: Size | None = None
    boxes: str | None = None
    place: str | None = None
    phrases: Sequence[str] = ()
    prompt: str | None = None


@dataclass(frozen=True)
class Request:
    """A file, the tool it is of, and what was chosen."""

    path: Path
    tool: str
    choices: Choices

    def command(self, *words: str, **choices: Any) -> str:
        """What to run to convert the file with other choices, and words more."""
        return convert_command(self.path, self.tool, replace(self.choices, **choices), *words)


def convert_command(path: Path, tool: str, choices: Choices | None = None, *words: str) -> str:
    """A command line that converts a file, not over itself; words are options more, such as ANY_SIZE."""
    out = "converted.json" if path.name == "layout.json" else "layout.json"
    options = _options(choices or Choices())
    return " ".join(
        ["python -m runtime convert", shlex.quote(f"{path}"), "--from", tool, *options, *words, "--out", out]
    )


def shown_size(size: Size) -> str:
    return f"{size[0]:g}x{size[1]:g}"


def _options(choices: Choices) -> list[str]:
    given = {field.name: getattr(choices, field.name) for field in fields(choices)}
    words: list[str] = []
    for name, value in given.items():
        if name == "phrases":
            words += [word for phrase in value for word in ("--phrase", shlex.quote(phrase))]
        elif value is not None:
            text = shown_size(value) if isinstance(value, tuple) else f"{value}"
            words += [f"--{name}", shlex.quote(text)]
    return words
