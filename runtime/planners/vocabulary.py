"""The marks that divide a sentence for the offline planner: relations, the image's sides, conjunctions and the like."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from runtime.planners.lexicon import ADVERBS, AUXILIARIES, FRAMES
from runtime.planners.relations import Kind, Side

Words = tuple[str, ...]
BARE_PLURAL = 2  # "balls", no number
FLOCK = 3  # "a herd of cows", no number


@dataclass(frozen=True)
class Relates:
    """What stands before it is `kind` what follows it, or, swapped, the other way about."""

    kind: Kind | Literal["between"]
    swapped: bool = False
    loose: bool = False  # what follows is scenery where it is a bare word: "at night", "by hand"


@dataclass(frozen=True)
class At:
    """A side or corner of the image."""

    sides: frozenset[Side]


# joins, comma: another object follows; owns: one that "it" is not; ends: another sentence; breaks: a verb;
# skips: what follows gets no box; mutual: each of them, to the other
Plain = Literal["joins", "comma", "owns", "ends", "breaks", "skips", "mutual"]
Mark = Relates | At | Plain


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
            for picture in FRAMES:
                yield f"{text} of the {picture}", At(frozenset(sides))


_KINDS: tuple[tuple[Kind | Literal["between"], bool, str], ...] = (
    ("above", False, "above, over, higher than, hovering over, up above, from above"),
    ("above", True, "below, beneath, under, underneath, lower than, on the bottom of, on bottom of, under neath"),
    ("above", True, "from under, from underneath, from beneath, at the foot of, at the base of"),
    ("on top of", False, "on top of, on the top of, at the top of, on tops of, ontop of, atop, atop of, on top"),
    ("on", False, "on, upon, onto, on to, on board, aboard"),
    ("in", False, "in, inside, inside of, within, into, in between the pages of, amid, amidst, among, amongst"),
    ("in", False, "in the middle of, in the center of, in the centre of, in the midst of, on the inside of"),
    ("in", True, "full of, filled with, containing, contains, contain, contained"),
    ("in front of", False, "in front of, in the front of, ahead of, in front"),
    ("in front of", True, "behind, in back of, at the back of, hidden by, hidden behind, hiding behind, obscured by"),
    (
        "in front of",
        True,
        "concealed by, blocked by, occluded by, covered by, beyond, hidden from view by, obstructed by",
    ),
    ("next to", False, "next to, beside, besides, near, near to, close to, adjacent to, alongside, alongside of, by"),
    (
        "next to",
        False,
        "on side of, on the side of, by the side of, at the side of, by side of, to the side of, at side of",
    ),
    ("next to", False, "on one side of, at the edge of, on the edge of, against, up against, around, surrounded by"),
    ("next to", False, "attached to, tied to, connected to, hooked to, chained to, opposite, opposite of, across from"),
    (
        "next to",
        False,
        "accompanied by, followed by, facing, toward, towards, out of, outside, outside of, past, beside of",
    ),
    ("between", False, "between, in between"),
)
LOOSE = {"in", "into", "by", "around", "within", "out of", "against", "toward", "towards", "past", "outside"}


def _relations() -> Iterator[tuple[str, Mark]]:
    for side, swapped in (("left", False), ("right", True)):
        mark = Relates("left of", swapped)
        yield f"{side} of", mark
        yield f"{side} to", mark
        yield f"to {side} of", mark
        yield f"on {side} of", mark
        yield f"on {side} side of", mark
        for at in ("at", "on", "to"):
            for part in ("", " side", " hand side", "-hand side"):
                yield f"{at} the {side}{part} of", mark
    for kind, swapped, texts in _KINDS:
        yield from ((text, Relates(kind, swapped, text in LOOSE)) for text in texts.split(", "))


_TEXTS: tuple[tuple[Plain, str], ...] = (
    ("joins", "and plus or but while as_well_as & along_with together_with in_addition_to alongside_with also_with"),
    ("owns", "with has have had having that_has who_has holding holds hold carrying carries riding rides eating eats"),
    ("owns", "watching watches showing shows"),
    ("ends", ". ; ! ?"),
    ("breaks", " ".join((AUXILIARIES | ADVERBS) - {"has", "have", "had", "having"})),
    ("breaks", "that which who where when whose there right there's that's here's it_is on_its_back on_display"),
    ("breaks", "at_the_camera at_a_camera looking_at_the_camera looks_at_the_camera look_at_the_camera at_night"),
    ("breaks", "out_of_focus in_front_of_the_camera"),
    ("skips", "from during for through across without like about as along up down off to than because if after"),
    ("skips", "covered_in covered_with made_of made_from made_to_look_like in_the_shape_of shaped_like instead_of"),
    ("skips", "depicting depicts wearing wears dressed_in dressed_as smelling because_of in_the_reflection_of"),
    ("mutual", "each_other one_another eachother each_others"),
)


def _plain() -> Iterator[tuple[str, Mark]]:
    for mark, words in _TEXTS:
        yield from ((word.replace("_", " "), mark) for word in words.split())
    yield "at", Relates("next to", loose=True)


# The longest that fits counts; of equal texts, the last.
MARKS: dict[Words, Mark] = {
    tuple(text.split()): mark for marks in (_sides(), _plain(), _relations()) for text, mark in marks
}
LONGEST_MARK = max(map(len, MARKS))
