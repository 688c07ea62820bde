"""A place for each object in what a system leaves of it: one after the other, as near as can be to where it looks best.

That is where what it is related to is; on something its own spot; and aside of what it would hide, or be hidden by.
"""

import numpy as np

from runtime.scenes.limits import Room, System
from runtime.scenes.problem import Link, Places, Problem
from runtime.scenes.relations import NEAR, RELATIONS, RIGHT, UP
from runtime.scenes.sight import left_of, right_of

Related = list[tuple[Link, int]]  # relations to objects that are placed, with the other object of each


def place_all(problem: Problem, system: System) -> Places:
    """(n,3). Depth before width: how far aside one is hidden depends on how far behind it is."""
    room, places, placed = Room(system), np.zeros_like(problem.sizes), set[int]()
    for i in problem.order:
        related = [one for one in problem.links_of[i] if one[1] in placed]
        on = [one for one in related if one[0].relation == "on" and one[0].two.subject == i]
        places[i, UP] = room.put(UP, i, problem.sizes[i, UP] / 2)
        places[i, NEAR] = room.put(NEAR, i, _beside(on or related, i, NEAR, places))
        places[i, RIGHT] = room.put(RIGHT, i, _across(problem, on or related, i, places))
        placed.add(i)
    return places


def _beside(related: Related, i: int, axis: int, places: Places) -> float:
    """In the midst of what it is related to."""
    wanted = [places[other, axis] + _off(link, i, axis) for link, other in related]
    return sum(wanted) / len(wanted) if wanted else 0.0


def _off(link: Link, i: int, axis: int) -> float:
    """On something at one's own spot."""
    is_on = link.spot is not None and i == link.two.subject
    return float(link.spot[0 if axis == RIGHT else 1]) if link.spot is not None and is_on else 0.0


def _across(problem: Problem, related: Related, i: int, places: Places) -> float:
    """To the right of what one is behind and to the left of what one is in front of, so far that half is seen."""
    sizes, eye = problem.sizes, problem.eye
    behind = [right_of(eye, sizes, places, i, other) for link, other in related if _is_behind(link, i)]
    before = [left_of(eye, sizes, places, i, other) for link, other in related if _is_before(link, i)]
    wanted = [*([max(behind)] if behind else []), *([min(before)] if before else [])]
    return sum(wanted) / len(wanted) if wanted else _beside(related, i, RIGHT, places)


def _is_behind(link: Link, i: int) -> bool:
    return RELATIONS[link.relation].hides == (1 if i == link.two.subject else -1)


def _is_before(link: Link, i: int) -> bool:
    return RELATIONS[link.relation].hides == (-1 if i == link.two.subject else 1)
