"""Relations: a row each, with what it asks of two objects' places.

Places are those of the objects' middles along three axes as the camera sees them: to the right, up, and nearer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RIGHT, UP, NEAR = range(3)  # axes
GAP = 0.2  # between two objects where none is given, a share of the smaller one
BESIDE = 0.5  # how much wider a gap may be where one is next to the other, a share of the smaller one


class Limit(NamedTuple):
    """The place of `first` less that of `second`, along an axis, is at most this; indices of objects."""

    axis: int
    first: int
    second: int
    most: float


class Stand(NamedTuple):
    """Where a thing may stand on another: its middle less the other's, to the right and nearer, from and to."""

    least: NDArray[np.float64]
    most: NDArray[np.float64]


@dataclass(frozen=True)
class Two:
    """Two objects of a relation: their indices, how large they are along the axes, the gap that was asked for, and
    where on the object's top the subject has room."""

    subject: int
    object: int
    sizes: tuple[Sequence[float], Sequence[float]]
    gap: float | None
    stands: Sequence[Stand] = ()

    @property
    def swapped(self) -> "Two":
        return Two(self.object, self.subject, self.sizes[::-1], self.gap)

    def smaller(self, axis: int) -> float:
        return min(size[axis] for size in self.sizes)

    def apart(self, axis: int) -> float:
        """How far their middles are apart where they touch."""
        return sum(size[axis] for size in self.sizes) / 2

    def gap_along(self, axis: int) -> float:
        return GAP * self.smaller(axis) if self.gap is None else self.gap


Limits = tuple[Limit, ...]
Ways = Sequence[Limits]  # of which one has to hold


def before(two: Two, axis: int, gap: float) -> Limit:
    """The subject ends before the object starts."""
    return Limit(axis, two.subject, two.object, -two.apart(axis) - gap)


def _within(two: Two, axis: int, most: float) -> Limits:
    return _between(two, axis, -most, most)


def _between(two: Two, axis: int, least: float, most: float) -> Limits:
    return Limit(axis, two.subject, two.object, most), Limit(axis, two.object, two.subject, -least)


def _first(axis: int) -> Callable[[Two], Ways]:
    return lambda two: [(before(two, axis, two.gap_along(axis)),)]


def _last(axis: int) -> Callable[[Two], Ways]:
    return lambda two: [(before(two.swapped, axis, two.gap_along(axis)),)]


def _on(two: Two) -> Ways:
    """It stands on the object's top, wherever there is room."""
    standing = _between(two, UP, two.apart(UP), two.apart(UP))
    return [(*standing, *_on_top(two, stand)) for stand in two.stands]


def _on_top(two: Two, stand: Stand) -> Limits:
    right, near = (_between(two, axis, *ends) for axis, *ends in zip((RIGHT, NEAR), *stand, strict=True))
    return *right, *near


def _next_to(two: Two) -> Ways:
    """On either side, or else before or behind; close, and not shifted by more than half of the smaller one."""
    return [_beside(one, axis) for axis in (RIGHT, NEAR) for one in (two.swapped, two)]


def _beside(two: Two, axis: int) -> Limits:
    """The subject just before the object; both at one height."""
    gap, across = two.gap_along(axis), RIGHT + NEAR - axis
    farthest = two.apart(axis) + gap + BESIDE * two.smaller(axis)
    close = Limit(axis, two.object, two.subject, farthest)
    level = _within(two, UP, abs(two.sizes[0][UP] - two.sizes[1][UP]) / 2)
    return before(two, axis, gap), close, *_within(two, across, BESIDE * two.smaller(across)), *level


@dataclass(frozen=True)
class RelationKind:
    """What a relation asks.

    Args:
        ways: what has to hold, one way or the other, of two objects' places; of the first that works.
        hides: 1 where the subject is seen behind the object, -1 before it: whichever is placed later is put to the
            other's side where nothing speaks against it.
        turns: 1 where the subject's front is turned to the object, -1 away from it.
    """

    ways: Callable[[Two], Ways] = lambda two: [()]
    hides: int = 0
    turns: int = 0
    has_gap: bool = True


RELATIONS: dict[str, RelationKind] = {
    "on": RelationKind(_on, has_gap=False),
    "above": RelationKind(_last(UP)),
    "below": RelationKind(_first(UP)),
    "left of": RelationKind(_first(RIGHT)),
    "right of": RelationKind(_last(RIGHT)),
    "in front of": RelationKind(_last(NEAR), hides=-1),
    "behind": RelationKind(_first(NEAR), hides=1),
    "next to": RelationKind(_next_to),
    "facing": RelationKind(turns=1, has_gap=False),
    "facing away from": RelationKind(turns=-1, has_gap=False),
}
TO_CAMERA = tuple(name for name, kind in RELATIONS.items() if kind.turns)  # that may have the camera as object
