"""Tries of what can be one way or the other: on which side one is next to another, and which way two go that overlap.

Depth first, in the order of the file; but a relation that has one way left, or none, comes at once. So what is found
is what would be found without looking ahead, and what leads nowhere is left early. All that is tried counts.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FieldError
from runtime.messages import shown
from runtime.scenes.limits import Choices, System
from runtime.scenes.placing import place_all
from runtime.scenes.problem import Link, Places, Problem
from runtime.scenes.relations import NEAR, RIGHT, Limits, Two, before

MOST_TRIES = 1400  # a second; 30 objects on one place need 435, and three times that where one hides another
CLEARANCE = 0.1  # between objects that nothing relates, a share of the smaller one

Pair = tuple[int, int]


class Tries:
    """What is left of the tries of one scene, however often it is placed."""

    def __init__(self) -> None:
        self._left = MOST_TRIES

    def take(self) -> bool:
        """One of them, if any is left."""
        self._left -= 1
        return self._left >= 0


class _Try(NamedTuple):
    """A system and what is to hold in it besides; then the relations, by number, that are open."""

    system: System
    limits: Limits
    left: Sequence[int]
    two: Pair  # objects that the limits are of


def search(problem: Problem, system: System, links: Sequence[Link], tries: Tries) -> Places:
    """Places where all of the relations hold, one way or the other, and no two objects overlap unless both were put so.

    Raises:
        FieldError: there are none, or none is found in so many tries.
    """
    choices = Choices([link.ways for link in links])
    untried, failed = [_Try(system, (), range(len(links)), (0, 0))], Counter[Pair]()
    while untried and tries.take():
        one = untried.pop()
        tried = one.system.with_limits(one.limits)
        if tried is None:
            failed[one.two] += 1
        elif (crowded := _crowded(problem, tried)) is not None:
            failed[crowded] += 1
        elif one.left:
            untried += _ways_of_next(links, choices, tried, one.left, failed)
        else:
            places = place_all(problem, tried)
            two = _overlap(problem, places)
            if two is None:
                return places
            untried += _tries(tried, _apart(problem, two, places), (), two)
    raise _no_room(problem, failed)


def _ways_of_next(
    links: Sequence[Link], choices: Choices, system: System, left: Sequence[int], failed: Counter[Pair]
) -> list[_Try]:
    """Of the first relation with one way left or none; else of the first."""
    open_ways = choices.left(system)[list(left)]
    counts = open_ways.sum(axis=1)
    at = int(np.argmax(counts <= 1))  # the first of all where there is none
    link, rest = links[left[at]], [*left[:at], *left[at + 1 :]]
    two = link.two.subject, link.two.object
    failed[two] += not counts[at]
    return _tries(system, [way for way, is_open in zip(link.ways, open_ways[at], strict=False) if is_open], rest, two)


def _tries(system: System, ways: Sequence[Limits], left: Sequence[int], two: Pair) -> list[_Try]:
    """The first of the ways last, which is tried first."""
    return [_Try(system, limits, left, two) for limits in reversed(ways)]


def _crowded(problem: Problem, system: System) -> Pair | None:
    """Two that have to overlap, wherever they have room."""
    is_near = system.most[:, :-1, :-1] < problem.touching
    return _first(np.all(is_near & is_near.transpose(0, 2, 1), axis=0))


def _overlap(problem: Problem, places: Places) -> Pair | None:
    """The first two objects that overlap, unless both were put so."""
    across = places.T
    return _first(np.all(abs(across[:, :, None] - across[:, None]) < problem.touching, axis=0))


def _first(pairs: NDArray[np.bool_]) -> Pair | None:
    first, second = divmod(int(pairs.argmax()), len(pairs))
    return (first, second) if pairs[first, second] else None


def _apart(problem: Problem, pair: Pair, places: Places) -> list[Limits]:
    """Side by side in the order of the file, unless they are the other way round; else behind each other."""
    sizes = problem.sizes[pair[0]].tolist(), problem.sizes[pair[1]].tolist()
    two, found = Two(*pair, sizes, None), list[Limits]()
    for axis in (RIGHT, NEAR):
        gap = CLEARANCE * two.smaller(axis)
        ways = [(before(two, axis, gap),), (before(two.swapped, axis, gap),)]
        is_swapped = places[two.subject, axis] > places[two.object, axis] + problem.rounding
        found += ways[::-1] if is_swapped else ways
    return found


def _no_room(problem: Problem, failed: Counter[Pair]) -> FieldError:
    """Names the two that were most often in each other's way, and a relation of theirs."""
    two = failed.most_common(1)[0][0]
    own = [link for link in problem.links if {link.two.subject, link.two.object} == set(two)]
    theirs = [link for i in two for link, _ in problem.links_of[i]]
    first, second = (repr(shown(problem.names[i], 40)) for i in two)
    if not own and not theirs:
        return FieldError("objects", f"{first} and {second} find no room beside each other; give them positions")
    link = (own or theirs)[-1]
    subject, other = (repr(shown(problem.names[i], 40)) for i in (link.two.subject, link.two.object))
    beside = "" if own else f", for {first} and {second} are in each other's way"
    return FieldError(
        link.field,
        f"no room is found for {subject} {link.relation} {other}{beside}; make them smaller, give them positions, "
        "or leave the relation out",
    )
