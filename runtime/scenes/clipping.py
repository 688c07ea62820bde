"""What of a shape is in the picture, whose corners are 0, 0 and 1, 1."""

import numpy as np
from numpy.typing import NDArray

Flat = NDArray[np.float64]  # (...,2) in fractions of the picture
CORNERS = np.array([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])


def in_picture(triangles: Flat) -> Flat:
    """(n,2): the corners of what is in the picture of triangles (m,3,2).

    These are ends of the triangles' edges, cut at the picture's, and corners of the picture within a triangle.
    """
    starts, ends = triangles.reshape(-1, 2), np.roll(triangles, -1, axis=1).reshape(-1, 2)
    return np.concatenate([_cut(starts, ends), CORNERS[_are_within(CORNERS, triangles)]])


def _cut(starts: Flat, ends: Flat) -> Flat:
    """Both ends of what of lines is in the picture (Liang and Barsky, 1984: the last entry and the first exit)."""
    ways = ends - starts
    with np.errstate(divide="ignore", invalid="ignore"):
        sides = np.sort([-starts / ways, (1 - starts) / ways], axis=0)
    is_along = ways == 0  # one side or the other: it is between both for good, or never
    is_between = (starts >= 0) & (starts <= 1)
    entry = np.where(is_along, np.where(is_between, -np.inf, np.inf), sides[0]).max(axis=1).clip(0)
    leave = np.where(is_along, np.inf, sides[1]).min(axis=1).clip(None, 1)
    inside = entry <= leave
    cut = [starts[inside] + at[inside, None] * ways[inside] for at in (entry, leave)]
    return np.concatenate(cut).clip(0, 1)


def _are_within(points: Flat, triangles: Flat) -> NDArray[np.bool_]:
    """(n,): whether points are on one side of all three edges of any triangle."""
    starts, ways = triangles, np.roll(triangles, -1, axis=1) - triangles
    off = points[:, None, None] - starts  # (n,m,3,2)
    sides = ways[..., 0] * off[..., 1] - ways[..., 1] * off[..., 0]
    is_flat = (sides == 0).all(axis=2)
    return np.asarray((((sides >= 0).all(axis=2) | (sides <= 0).all(axis=2)) & ~is_flat).any(axis=1))
