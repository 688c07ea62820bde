"""What others can stand on: the flat part of an object's top in the object's own axes, or its tip."""

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from runtime.scenes.relations import Stand
from runtime.scenes.shapes import Mesh, Points

FLAT = 1e-6  # of an object's height: what is as high is at one height
SPOTS = (0, -0.7, 0.7)  # where room is looked for on a top that is turned, of the way from its middle to its edge
Plan = NDArray[np.float64]  # (2,) or (n,2): to the right and nearer


@dataclass(frozen=True, eq=False)
class Top:
    """A rectangle.

    Args:
        middle: (2,) less the middle of the object, along the axes of relations.
        along: (2,2) its own axes as rows.
        half: (2,) how far it reaches along them; 0 of a tip.
    """

    middle: Plan
    along: NDArray[np.float64]
    half: Plan

    @property
    def is_tip(self) -> bool:
        return not self.half.any()


def top_of(points: Points, mesh: Mesh, own: NDArray[np.float64]) -> Top:
    """Of an object in the axes of relations.

    Args:
        points: (n,3) the mesh's, along the axes of relations.
        own: (3,3) the object's own axes as rows, along those of relations.
    """
    flat = _flat(points, mesh)
    if not len(flat):
        return Top(contact_of(points), np.eye(2), np.zeros(2))
    along = _level(own)
    places = _plan(flat) @ along.T
    low, high = places.min(axis=0), places.max(axis=0)
    is_rectangle = len(np.unique(flat.round(12), axis=0)) == 4
    share = 1 if is_rectangle else math.sqrt(0.5)  # of an ellipse the rectangle within it
    return Top((low + high) / 2 @ along - _middle(points), along, (high - low) / 2 * share)


def contact_of(points: Points) -> Plan:
    """(2,): where it touches what is above it, less its own middle: the middle of its highest edge, if it has one."""
    high = np.unique(_plan(points[_is_high(points)]).round(12), axis=0)
    touching = high.mean(axis=0) if len(high) <= 4 else high[high[:, 1].argmax()]  # a ring's hole does not
    return touching - _middle(points)


def cell_of(top: Top, number: int, count: int) -> Plan:
    """(2,): along the top's own axes, from its object's middle: of as many cells as things stand there one's own."""
    columns = min(max(math.ceil(math.sqrt(count * top.half[0] / max(top.half[1], 1e-30))), 1), count)
    row, column = divmod(number, columns)
    rows = math.ceil(count / columns)
    return top.along @ top.middle + ((np.array([column, row]) + 0.5) / (columns, rows) - 0.5) * 2 * top.half


def stands_on(top: Top, points: Points, cell: Plan) -> tuple[list[Stand], Plan]:
    """Where an object has room, around its own cell first, and the place there that is nearest to the cell's middle.

    All of it is on the top, or, where it is larger, its foot in the top's middle.

    Args:
        points: (n,3) the object's, along the axes of relations.
    """
    low, high = _room(top, points)
    spots = [np.clip(cell, low, high), *((low + high + (high - low) * share) / 2 for share in product(SPOTS, SPOTS))]
    return [Stand(*one) for one in _rectangles(top, low, high, spots)], spots[0] @ top.along


def stand_near(top: Top, points: Points, place: Plan) -> Stand:
    """The one place where an object has room that is nearest to (2,) along the axes of relations."""
    spot = np.clip(top.along @ place, *_room(top, points)) @ top.along
    return Stand(spot, spot)


def _room(top: Top, points: Points) -> tuple[Plan, Plan]:
    """Along the top's own axes, of the object's middle less that of what it is on: from and to."""
    own = (_plan(points) - _middle(points)) @ top.along.T
    middle = top.along @ top.middle
    low, high = middle - top.half - own.min(axis=0), middle + top.half - own.max(axis=0)
    standing = middle - top.along @ contact_of(points * (1, -1, 1))
    return np.where(low > high, standing, low), np.where(low > high, standing, high)


def _rectangles(top: Top, low: Plan, high: Plan, spots: list[Plan]) -> list[tuple[Plan, Plan]]:
    """In line with the axes of relations: all of the room, if it is; else squares around spots in it."""
    if (abs(top.along).round(9) % 1 == 0).all():
        ends = np.stack([low, high]) @ top.along
        return [(ends.min(axis=0), ends.max(axis=0))]
    halves = [(np.minimum(spot - low, high - spot) / abs(top.along).sum(axis=1)).min() for spot in spots]
    return [(spot @ top.along - half, spot @ top.along + half) for spot, half in zip(spots, halves, strict=True)]


def _level(own: NDArray[np.float64]) -> NDArray[np.float64]:
    """(2,2): the two axes that are level, first the one that is more to the right; both to the right or nearer."""
    level = own[np.argsort(abs(own[:, 1]))[:2]][:, [0, 2]]
    level = level[np.argsort(-abs(level[:, 0]), kind="stable")]
    return level * np.where(np.diag(level) < 0, -1, 1)[:, None]


def _flat(points: Points, mesh: Mesh) -> Points:
    """(n,3): the corners of the triangles that are level and highest; a line is no triangle."""
    corners = points[mesh.triangles[_is_high(points)[mesh.triangles].all(axis=1)]]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return corners[abs(normals[:, 1]) > FLAT * np.ptp(points, axis=0).max() ** 2].reshape(-1, 3)


def _is_high(points: Points) -> NDArray[np.bool_]:
    height = points[:, 1]
    return height >= height.max() - FLAT * np.ptp(height)


def _plan(points: Points) -> Plan:
    return points[:, [0, 2]]


def _middle(points: Points) -> Plan:
    """(2,): of the box around points."""
    plan = _plan(points)
    return (plan.min(axis=0) + plan.max(axis=0)) / 2
