"""Records of knobs: each field has its default, range and help in one place, and is checked when a record is made."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, get_type_hints

from runtime.errors import RealCompoError

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
        for one in fields(self):  # type: ignore[arg-type]  # of the dataclass that derives from this
            one.metadata["check"](one.name, getattr(self, one.name))


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
        RealCompoError: a value out of its range.
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
