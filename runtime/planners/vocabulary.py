"""The words that the offline planner knows, but for counts: relations, the image's sides, where a noun phrase ends."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from runtime.planners.placement import Kind, Side

Words = tuple[str, ...]


@dataclass(frozen=True)
class Relates:
    """What stands before it is `kind` what follows it, or, swapped, the other way about."""

    kind: Kind | Literal["between"]
    swapped: bool = False


@dataclass(frozen=True)
class At:
    """A side or corner of the image."""

    sides: frozenset[Side]


# joins, comma: another object follows; ends: another sentence; breaks: a verb; skips: what follows gets no box
Plain = Literal["joins", "comma", "ends", "breaks", "skips"]
Mark = Relates | At | Plain


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


BARE_PLURAL = 2  # "balls", no number
ONE = _words("a an another each every this")
SINGLE = _words("a an")  # of one thing, whatever number follows
ARTICLES = ONE | _words("the these those my your his her its our their")
PRONOUNS = _words("it him them")
MEDIA = _words("photo photograph picture image painting drawing illustration render rendering sketch shot")
SCENERY = _words("background bokeh lighting quality resolution style view")
STYLE = SCENERY | _words(
    "4k 8k art artstation cinematic detailed focus hd high-quality light masterpiece photorealistic realistic render "
    "sharp uhd vivid"
)


def _sides() -> Iterator[tuple[str, Mark]]:
    names: dict[str, tuple[Side, ...]] = {
        "left": ("left",),
        "right": ("right",),
        "top": ("top",),
        "bottom": ("bottom",),
        **dict.fromkeys(("center", "centre", "middle"), ("center", "middle")),
    }
    for row, words in (("top", ("top", "upper")), ("bottom", ("bottom", "lower"))):
        for column in ("left", "right"):
            names |= {f"{word}{dash}{column}": (row, column) for word in words for dash in (" ", "-")}  # type: ignore[misc]
    for name, sides in names.items():
        for text in (f"{at} the {name}{part}" for at in ("at", "in", "on", "to") for part in ("", " corner", " side")):
            yield text, At(frozenset(sides))
            yield f"{text} of", "skips"  # "at the top of the stairs" is about stairs
            for picture in MEDIA | {"frame", "scene", "canvas"}:
                yield f"{text} of the {picture}", At(frozenset(sides))


def _relations() -> Iterator[tuple[str, Mark]]:
    for side, swapped in (("left", False), ("right", True)):
        yield f"{side} of", Relates("left of", swapped)
        for at in ("at", "on", "to"):
            yield f"{at} the {side} of", Relates("left of", swapped)
            yield f"{at} the {side} side of", Relates("left of", swapped)
    kinds: tuple[tuple[Kind | Literal["between"], bool, str], ...] = (
        ("above", False, "above, over, higher than"),
        ("above", True, "below, beneath, under, underneath, lower than"),
        ("on", False, "on, upon, on top of, atop"),
        ("in front of", False, "in front of"),
        ("in front of", True, "behind"),
        ("next to", False, "next to, beside, near, close to, adjacent to, alongside, by the side of"),
        ("between", False, "between, in between"),
    )
    for kind, swapped, texts in kinds:
        yield from ((text, Relates(kind, swapped)) for text in texts.split(", "))


def _plain() -> Iterator[tuple[str, Mark]]:
    texts: tuple[tuple[Plain, str], ...] = (
        ("joins", "and with plus or but while as &"),
        ("ends", ". ; ! ?"),
        (
            "breaks",
            "is are was were be being there that which who stands standing sits sitting lies lying rests resting",
        ),
        ("breaks", "hangs hanging floats floating flying running walking sleeping jumping looking facing leaning"),
        ("breaks", "placed located positioned stacked arranged parked directly immediately just right"),
        ("skips", "in inside within into at by from during for against through around across without like"),
        ("skips", "wearing wears holding holds carrying carries riding rides eating eats having has"),
    )
    for mark, words in texts:
        yield from ((word, mark) for word in words.split())


# The longest that fits counts; of equal texts, the last.
MARKS: dict[Words, Mark] = {
    tuple(text.split()): mark for marks in (_sides(), _relations(), _plain()) for text, mark in marks
}
LONGEST_MARK = max(map(len, MARKS))
