"""Where objects stand: relations and places that were given make a system of limits, which leaves each object room.

What relations ask for certain comes first. What can be one way or the other is then tried (`search`), and objects are
placed one after the other, each as near as it can be to where it looks best (`placing`).
"""

from collections.abc import Sequence

from runtime.errors import FieldError
from runtime.messages import shown
from runtime.scenes.limits import AXES, System
from runtime.scenes.problem import Link, Places, Problem
from runtime.scenes.relations import UP, Limit
from runtime.scenes.search import Tries, search


def solve(problem: Problem, tries: Tries) -> Places:
    """A place for every object, so that every relation holds, none stands below the ground, and no two overlap unless
    they were put so.

    Raises:
        FieldError: relations that contradict each other or the given places, or no room.
    """
    certain = [link for link in problem.links if len(link.ways) == 1]
    others = [link for link in problem.links if len(link.ways) != 1]
    ground = _grounded(problem)
    system = _with_all(certain, ground)
    for link in others:
        if not system.allows_any(link.ways):
            raise _contradiction(link, certain, ground)
    return search(problem, system, others, tries)


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
    system = System.free(n, problem.rounding).with_limits([*above, *given])
    assert system is not None, "the ground and given places are limits of one object each"
    return system


def _with_all(certain: Sequence[Link], ground: System) -> System:
    """With what can be one way only.

    Raises:
        FieldError: which of them contradict each other.
    """
    system = ground
    for i, link in enumerate(certain):
        more = system.with_limits(link.ways[0])
        if more is None:
            raise _contradiction(link, certain[:i], ground)
        system = more
    return system


def _contradiction(link: Link, earlier: Sequence[Link], ground: System) -> FieldError:
    """Of a relation, with as few of the earlier ones, which can be one way only, as contradict it."""
    needed: list[Link] = []
    rest: Sequence[Link] = earlier
    while (last := _first_against(link, needed, rest, ground)) is not None:
        needed.append(rest[last])
        rest = rest[:last]
    others = ", ".join(one.field for one in sorted(needed, key=earlier.index)) or "the objects' positions"
    return FieldError(link.field, f"{link.relation!r} cannot hold: it contradicts {shown(others)}")


def _first_against(link: Link, needed: Sequence[Link], rest: Sequence[Link], ground: System) -> int | None:
    """With which of the rest, one after the other, it cannot hold any more; None where it cannot without them."""
    system: System | None = ground
    for one in needed:
        system = system and system.with_limits(one.ways[0])
    for i, one in enumerate(rest):
        if system is None or not system.allows_any(link.ways):
            return i - 1 if i else None
        system = system.with_limits(one.ways[0])
    return len(rest) - 1 if rest else None
