"""Comparisons of counts: "a few dogs and two cats, the number of dogs is more than that of cats"."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from runtime.errors import RealCompoError

Sign = Literal["more", "fewer", "as many"]
_SIGNS: dict[Sign, str] = {
    "more": "more|greater|larger|higher|bigger",
    "fewer": "less|fewer|smaller|lower",
    "as many": "equal|the same|same|identical|as many",
}
_MORE, _FEWER, _SAME = _SIGNS.values()
_THING = r"[^\W\d_][\w'-]*(?:\s+[^\W\d_][\w'-]*){0,3}?"
_OF = r"(?:(?:that|those|the\s+number|the\s+one)\s+of\s+)?"
_END = r"(?=\s*(?:[.,;!?]|$|\b(?:and|in|on|at|with|are|is)\b))"
# "the number of cats is more than that of dogs"
_NUMBERS = re.compile(
    rf"[\s,;.]*(?:\b(?:and|but|where|while|so\s+that)\s+)?\bthe\s+(?:number|amount|count)\s+of\s+(?P<first>{_THING})\s+"
    rf"(?:is|are|being)\s+(?P<how>{_MORE}|{_FEWER}|{_SAME})\s+(?:than|to|as)\s+{_OF}(?:the\s+)?(?P<second>{_THING}){_END}",
    re.IGNORECASE,
)
# "more cats than dogs", "as many cats as dogs"
_INLINE = re.compile(
    rf"\b(?P<how>more|fewer|less|as\s+many)\s+(?P<first>{_THING})\s+(?P<than>than|as)\s+(?P<second>{_THING}){_END}",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Comparison:
    """There are `sign` of the first than, or as, of the second; each named as the prompt has it."""

    first: str
    sign: Sign
    second: str


def take_comparisons(prompt: str) -> tuple[str, list[Comparison]]:
    """The prompt without its comparisons, what they compare left in its place, and the comparisons."""
    found: list[Comparison] = []

    def note(match: re.Match[str]) -> None:
        how = " ".join(match["how"].lower().split())
        sign = next(sign for sign, words in _SIGNS.items() if how in words.split("|"))
        found.append(Comparison(match["first"], sign, match["second"]))

    def leave(match: re.Match[str]) -> str:
        note(match)
        return f"some {match['first']} and some {match['second']}"

    def drop(match: re.Match[str]) -> str:
        note(match)
        return ""

    return _INLINE.sub(leave, _NUMBERS.sub(drop, prompt)), found


@dataclass(frozen=True)
class Number:
    """A count, and whether the prompt leaves it open: "a few" and a bare plural do."""

    count: int
    is_open: bool


def compare(sign: Sign, first: Number, second: Number, said: Sequence[str]) -> tuple[int, int]:
    """Counts that keep a comparison, open ones moved as little as it takes.

    Args:
        said: both phrases, for an error.

    Raises:
        RealCompoError: neither count can move far enough.
    """
    a, b = first.count, second.count
    if _holds(sign, a, b):
        return a, b
    if second.is_open and (moved := _moved(sign, a)) > 0:
        return a, moved
    if first.is_open:
        return _moved(_OPPOSITE[sign], b), b
    raise RealCompoError(
        f"the prompt's counts contradict each other: {a} {said[0]!r} cannot be {sign} than, or as, {b} {said[1]!r}; "
        "mend a number"
    )


_OPPOSITE: dict[Sign, Sign] = {"more": "fewer", "fewer": "more", "as many": "as many"}


def _holds(sign: Sign, a: int, b: int) -> bool:
    return {"more": a > b, "fewer": a < b, "as many": a == b}[sign]


def _moved(sign: Sign, count: int) -> int:
    """The nearest second count to which the first one is `sign`."""
    return count + {"more": -1, "fewer": 1, "as many": 0}[sign]
