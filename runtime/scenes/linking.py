"""Relations with all that the solver needs of their objects: sizes, and where there is room on a top."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from runtime.errors import FieldError
from runtime.messages import shown
from runtime.scenes.camera import Axes
from runtime.scenes.graph import Edge
from runtime.scenes.problem import Link, Places
from runtime.scenes.relations import Two
from runtime.scenes.solids import Body, Vector
from runtime.scenes.tops import Top, cell_of, stand_near, stands_on


def link_all(
    edges: Sequence[Edge], bodies: Sequence[Body], sizes: Places, fixed: Mapping[int, Vector], axes: Axes
) -> list[Link]:
    """Of relations between objects.

    Raises:
        FieldError: several things are on one tip.
    """
    found = list[Link]()
    for edge in edges:
        if edge.object is not None:
            two = Two(edge.subject, edge.object, (sizes[edge.subject], sizes[edge.object]), edge.gap)
            plain = Link(edge.relation, two, edge.field)
            found.append(_standing(plain, edges, bodies, fixed, axes) if edge.relation == "on" else plain)
    return found


def _standing(
    link: Link, edges: Sequence[Edge], bodies: Sequence[Body], fixed: Mapping[int, Vector], axes: Axes
) -> Link:
    """With where the subject has room on the object, and its own spot among the others that stand there."""
    subject, below = link.two.subject, link.two.object
    others = list(dict.fromkeys(one.subject for one in edges if one.relation == "on" and one.object == below))
    top, points = bodies[below].top(axes), bodies[subject].mesh.points @ axes.T
    _check_tip(top, link, others, bodies)
    stands, spot = stands_on(top, points, cell_of(top, others.index(subject), len(others)))
    if subject in fixed and below in fixed:
        stands = [stand_near(top, points, (fixed[subject] - fixed[below])[[0, 2]])]
    return replace(link, two=replace(link.two, stands=stands), spot=spot)


def _check_tip(top: Top, link: Link, others: Sequence[int], bodies: Sequence[Body]) -> None:
    if top.is_tip and link.two.subject != others[0]:
        below, first, subject = (shown(bodies[i].object.id, 40) for i in (link.two.object, others[0], link.two.subject))
        raise FieldError(
            link.field,
            f"{below!r} has no flat top, so that one thing alone can be on it, which is {first!r}; "
            f"put {subject!r} on something else",
        )
