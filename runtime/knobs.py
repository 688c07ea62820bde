"""Records of knobs: each field has its default, range and help in one place, and is checked when a record is made."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from runtime.errors import RealCompoError
from runtime.messages import shown

R = TypeVar("R", bound="Knobs")
Check = Callable[[str, Any], None]  # of a name and its value; raises RealCompoError


@dataclass(frozen=True)
class Knob:
    """A field of a record, described for command lines, servers and pages."""

    name: str
    type: Any
    default: Any
    help: str
    low: float | None
    high: float
    unset: str  # what None, the default, stands for


class Knobs:
    """A frozen dataclass of fields made by `knob`."""

    def __post_init__(self) -> None:
        types = get_type_hints(type(self))
        for one in fields(self):  # type: ignore[arg-type]  # of the dataclass that derives from this
            value = getattr(self, one.name)
            _check_type(one.name, value, types[one.name])
            one.metadata["check"](one.name, value)


def knob(
    default: Any,
    text: str,
    *,
    low: float | None = None,
    high: float = math.inf,
    unset: str = "",
    check: Check | None = None,
) -> Any:
    """A field of `Knobs`.

    Args:
        default: its value; None may stand for one that depends on others, which `unset` describes.
        text: help, a sentence.
        low: the least value, of a number or of each of a sequence; without it there is no range.
        high: the largest value.
        check: what else is to be checked.
    """

    def checked(name: str, value: Any) -> None:
        if low is not None and value is not None:
            for number in value if isinstance(value, Sequence) else [value]:
                check_range(name, number, low, high)
        if check:
            check(name, value)

    return field(default=default, metadata={"help": text, "low": low, "high": high, "unset": unset, "check": checked})


def knobs_of(record: type[Knobs]) -> dict[str, Knob]:
    """A record's knobs by name, in its order."""
    types = get_type_hints(record)
    return {
        one.name: Knob(
            one.name, types[one.name], one.default, *(one.metadata[key] for key in ("help", "low", "high", "unset"))
        )
        for one in fields(record)  # type: ignore[arg-type]
    }


def make(record: type[R], given: Mapping[str, Any]) -> R:
    """A record of those of the given values that are its knobs.

    Raises:
        RealCompoError: a value of another type, or out of its range.
    """
    names = knobs_of(record)
    return record(**{name: value for name, value in given.items() if name in names})


def check_count(name: str, value: int) -> None:
    if value < 1:
        raise RealCompoError(f"{name}={value} is out of range; use 1 or more")


def check_range(name: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        limit = f"{low} to {high}" if math.isfinite(high) else f"{low} or more"
        raise RealCompoError(f"{name}={value} is out of range; use {limit}")


def _check_type(name: str, value: Any, kind: Any) -> None:
    if not _is(value, kind):
        raise RealCompoError(f"{name}={shown(repr(value))} is of the wrong type; give {_in_words(kind)}")


def _is(value: Any, kind: Any) -> bool:
    """Whether a value is what a knob's type says. Any sequence will do for a tuple, and any library's numbers."""
    if isinstance(kind, UnionType):
        return any(_is(value, one) for one in get_args(kind))
    if get_origin(kind) in (Sequence, tuple):
        return isinstance(value, Sequence) and all(_is(one, get_args(kind)[0]) for one in value)
    if get_origin(kind) is Literal:
        return isinstance(value, str)  # which of them the knob's own check says
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    return isinstance(value, kind)


_WORDS = {int: "a whole number", float: "a number", str: "a word", bool: "true or false", NoneType: "none"}


def _in_words(kind: Any) -> str:
    if isinstance(kind, UnionType):
        return " or ".join(map(_in_words, get_args(kind)))
    if get_origin(kind) is tuple:
        return f"{len(get_args(kind))} numbers"
    if get_origin(kind) is Sequence:
        return f"several, each {_in_words(get_args(kind)[0])}"
    return _WORDS.get(kind, "a name")
