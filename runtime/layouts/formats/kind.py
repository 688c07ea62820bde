"""What a tool's layout file is to the converter: objects in the file's own numbers, and how those are to be read."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from runtime.layouts.formats.source import Source
from runtime.layouts.geometry import Keypoint
from runtime.layouts.images import ImageSource

Size = tuple[float, float]  # width and height of what coordinates count in
FRACTIONS: Size = (1, 1)
ANY_SIDES = "WIDTHxHEIGHT"
ANY_PHRASE = "PHRASE"  # of an object without a name, in a command whose user knows it


class AnySize(tuple[float, float]):
    """A size that the user alone knows: in a command WIDTHxHEIGHT, and to try that with, one that holds all boxes."""


def nothing() -> None:
    """What an object has of a place that its file knows not."""


@dataclass(frozen=True, eq=False)
class Thing:
    """An object as the file has it: coordinates in the unit of its scene's size.

    Args:
        where: the field it stands in.
        box: in its scene's form.
        mask, keypoints: read when they are asked for, so that a damaged one is in nobody's way who wants another place.
        pose_size: of what keypoints count in, where it is not the scene's.
    """

    where: str
    phrase: str | None = None
    box: Sequence[float] | None = None
    mask: Callable[[], ImageSource | None] = nothing
    keypoints: Callable[[], Sequence[Keypoint] | None] = nothing
    pose_size: Size | None = None
    tokens: Sequence[int] | None = None
    label: int | str | None = None
    layer: int = 0


@dataclass(frozen=True, eq=False)
class Scene:
    """What a file has of one picture.

    Args:
        form: of its boxes, one of `boxes.FORMS`; None where nothing says it.
        size: of what coordinates count in: pixels, or FRACTIONS; None where nothing says it.
        is_said: whether the file itself says the size, rather than its tool's manual.
        notes: what of the file no layout holds, for a warning.
        forms: where nothing says the boxes' form, what it may be, the likeliest first; empty: anything.
        rest: of the layout besides regions and prompt, as `Layout` takes it.
    """

    things: Sequence[Thing]
    prompt: str | None
    form: str | None
    size: Size | None
    is_said: bool = False
    notes: Sequence[str] = ()
    forms: Sequence[str] = ()
    rest: Mapping[str, Any] = field(default_factory=dict)


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

    def choosing(self, **choices: Any) -> "Request":
        """With other choices."""
        return replace(self, choices=replace(self.choices, **choices))

    def command(self) -> str:
        """What to run to convert the file, not over itself."""
        out = "converted.json" if self.path.name == "layout.json" else "layout.json"
        words = [shlex.quote(f"{self.path}"), "--from", self.tool, *_options(self.choices), "--out", out]
        return " ".join(["python -m runtime convert", *words])


def shown_size(size: Size) -> str:
    return ANY_SIDES if isinstance(size, AnySize) else f"{size[0]:g}x{size[1]:g}"


def _options(choices: Choices) -> list[str]:
    given = {one.name: getattr(choices, one.name) for one in fields(choices)}
    words: list[str] = []
    for name, value in given.items():
        if name == "phrases":
            words += [word for phrase in value for word in ("--phrase", shlex.quote(phrase))]
        elif value is not None:
            text = shown_size(value) if isinstance(value, tuple) else f"{value}"
            words += [f"--{name}", shlex.quote(text)]
    return words
