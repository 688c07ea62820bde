"""Where objects stand: relations and places that were given make a system of limits, which leaves each object room.

Objects are then placed one after the other, each as near as it can be to where it looks best. Two that overlap are put
apart, one way or the other, and all is placed again.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FieldError
from runtime.messages import shown
from runtime.scenes.limits import AXES, ROUNDING, System
from runtime.scenes.relations import NEAR, RELATIONS, RIGHT, UP, Limit, Limits, Two, Ways, before

MOST_TRIES = 600
CLEARANCE = 0.1  # between objects that nothing relates, a share of the smaller one

Places = NDArray[np.float64]  # (n,3): of the objects' middles to the right, up and nearer


@dataclass(frozen=True)
class Link:
    """A relation between two objects, and the field that it stands in."""

    relation: str
    two: Two
    field: str

    @property
    def ways(self) -> Ways:
        return RELATIONS[self.relation].ways(self.two)


@dataclass(frozen=True)
class Problem:
    """What is to be placed.

    Args:
        names: of the objects, for errors.
        sizes: (n,3) along the axes.
        fixed: places that were given, by index.
        links: relations.
    """

    names: Sequence[str]
    sizes: NDArray[np.float64]
    fixed: Mapping[int, NDArray[np.float64]]
    links: Sequence[Link]


def solve(problem: Problem) -> Places:
    """A place for every object, so that every relation holds, none stands below the ground, and no two overlap unless
    they were put so.

    Raises:
        FieldError: relations that contradict each other or the given places, or no room.
    """
    ground = _grounded(problem)
    _check(problem, ground)
    found = _search(problem, ground)
    if found is None:
        raise FieldError("relations", "no room is left for all objects as the relations have them; leave some out")
    return found


def _grounded(problem: Problem) -> System:
    """The given places, and no object below the ground."""
    n = len(problem.names)
    above = [Limit(UP, -1, i, -problem.sizes[i, UP] / 2) for i in range(n) if i not in problem.fixed]
    given = [
        limit
        for i, place in problem.fixed.items()
        for axis in range(AXES)
        for limit in (Limit(axis, i, -1, place[axis]), Limit(axis, -1, i, -place[axis]))
    ]
    system = System.free(n).with_limits([*above, *given])
    assert system is not None, "the ground and given places are limits of one object each"
    return system


def _check(problem: Problem, ground: System) -> None:
    """That what relations ask for certain can be, and if not, which of them contradict each other."""
    certain = [link for link in problem.links if len(link.ways) == 1]
    system: System | None = ground
    for i, link in enumerate(certain):
        system = system and system.with_limits(link.ways[0])
        if system is None:
            raise FieldError(link.field, _contradiction(link, certain[:i], ground))


def _contradiction(link: Link, earlier: Sequence[Link], ground: System) -> str:
    """In words, with as few of the earlier relations as contradict it."""
    needed = list(earlier)
    for other in earlier:
        rest = [one for one in needed if one is not other]
        if ground.with_limits(limit for one in (*rest, link) for limit in one.ways[0]) is None:
            needed = rest
    others = ", ".join(one.field for one in needed) or "the objects' positions"
    return f"{link.relation!r} cannot hold: it contradicts {shown(others)}"


def _search(problem: Problem, ground: System) -> Places | None:
    """Tries ways of what can be one way or the other, depth first."""
    left: list[tuple[System, Sequence[Ways]]] = [(ground, [link.ways for link in problem.links])]
    tries = 0
    while left:
        system, open_ways = left.pop()
        if not open_ways:
            places = _place(problem, system)
            if (two := _overlap(problem, places)) is None:
                return places
            tries += 1
            _check_tries(problem, two, tries)
            open_ways = [_apart(two, places)]
        tightened = [system.with_limits(limits) for limits in open_ways[0]]
        left += [(one, open_ways[1:]) for one in reversed(tightened) if one]
    return None


def _check_tries(problem: Problem, two: Two, tries: int) -> None:
    if tries > MOST_TRIES:
        names = " and ".join(shown(problem.names[i], 40) for i in (two.subject, two.object))
        raise FieldError("relations", f"{names} find no room beside each other; make them smaller, or leave one out")


def _place(problem: Problem, system: System) -> Places:
    """One after the other, each as near as it can be to where it looks best."""
    places = np.zeros_like(problem.sizes)
    placed: set[int] = set()
    for i in _order(problem):
        for axis, wanted in enumerate(_wanted(problem, i, placed, places)):
            places[i, axis], system = system.at(axis, i, wanted)
        placed.add(i)
    return places


def _order(problem: Problem) -> Iterator[int]:
    """Given places first; then always the first that is related to one before it, if any is."""
    left = [*problem.fixed, *(i for i in range(len(problem.names)) if i not in problem.fixed)]
    placed: set[int] = set()
    while left:
        fixed = [i for i in left if i in problem.fixed]
        related = [i for i in left if any(_other(link.two, i) in placed for link in problem.links)]
        chosen = (fixed or related or left)[0]
        left.remove(chosen)
        placed.add(chosen)
        yield chosen


def _other(two: Two, i: int) -> int | None:
    """The object that i is related to, if it is one of the two."""
    return {two.subject: two.object, two.object: two.subject}.get(i)


def _wanted(problem: Problem, i: int, placed: set[int], places: Places) -> tuple[float, float, float]:
    """Where what it is on is, or else the related objects, or aside of them; and on the ground."""
    standing = [link for link in problem.links if link.relation == "on" and link.two.subject == i]
    beside = [
        places[other, [RIGHT, NEAR]] + _aside(problem, link, i)
        for link in standing or problem.links
        if (other := _other(link.two, i)) in placed and other is not None
    ]
    right, near = np.mean(beside, axis=0) if beside else (0.0, 0.0)
    return right, problem.sizes[i, UP] / 2, near


def _aside(problem: Problem, link: Link, i: int) -> NDArray[np.float64]:
    """(2,): to the right of what one is behind and to the left of what one is in front of, so far that half is seen;
    on something in a cell of one's own."""
    if link.relation == "on" and i == link.two.subject:
        return _cell(problem, link)
    if not RELATIONS[link.relation].hides:
        return np.zeros(2)
    is_behind = (link.relation == "behind") == (i == link.two.subject)
    width = max(size[RIGHT] for size in link.two.sizes) / 2
    return np.array([width if is_behind else -width, 0])


def _cell(problem: Problem, link: Link) -> NDArray[np.float64]:
    """(2,): the middle of a cell of what several things are on, which is split into as many as there are things."""
    others = [one.field for one in problem.links if one.relation == "on" and one.two.object == link.two.object]
    top = problem.sizes[link.two.object, [RIGHT, NEAR]]
    columns = min(math.ceil(math.sqrt(len(others) * top[0] / top[1])), len(others))
    row, column = divmod(others.index(link.field), columns)
    rows = math.ceil(len(others) / columns)
    return ((np.array([column, row]) + 0.5) / (columns, rows) - 0.5) * top


def _overlap(problem: Problem, places: Places) -> Two | None:
    """The first two objects that overlap, unless both were put so."""
    for i, j in combinations(range(len(places)), 2):
        touching = (problem.sizes[i] + problem.sizes[j]) / 2 - ROUNDING * 10
        if not (i in problem.fixed and j in problem.fixed) and (abs(places[i] - places[j]) < touching).all():
            return Two(i, j, (problem.sizes[i].tolist(), problem.sizes[j].tolist()), None)
    return None


def _apart(two: Two, places: Places) -> Ways:
    """Side by side in the order of the file, unless they are the other way round; else behind each other."""
    found: list[Limits] = []
    for axis in (RIGHT, NEAR):
        gap = CLEARANCE * two.smaller(axis)
        ways = [(before(two, axis, gap),), (before(two.swapped, axis, gap),)]
        is_swapped = places[two.subject, axis] > places[two.object, axis] + ROUNDING
        found += ways[::-1] if is_swapped else ways
    return found
