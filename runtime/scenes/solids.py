"""Objects in the world: their shapes sized and turned, and put where they stand."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from runtime.scenes.camera import Axes
from runtime.scenes.parts import SceneObject, Triple
from runtime.scenes.shapes import SHAPES, Mesh, Points
from runtime.scenes.tops import Top, top_of

Vector = NDArray[np.float64]  # (3,)
Turn = NDArray[np.float64]  # (3,3)


@dataclass(frozen=True, eq=False)
class Solid:
    """An object in its place; its corners are in metres of the world."""

    object: SceneObject
    mesh: Mesh


@dataclass(frozen=True, eq=False)
class Body:
    """An object, sized and turned, around the origin."""

    object: SceneObject
    turn: Turn

    @cached_property
    def mesh(self) -> Mesh:
        mesh = SHAPES[self.object.shape]()
        return mesh._replace(points=mesh.points * self.object.size @ self.turn.T)

    @property
    def reach(self) -> float:
        """How far from its middle it gets when it is turned about the vertical, in metres."""
        return float(np.hypot(self.mesh.points[:, 0], self.mesh.points[:, 2]).max())

    def top(self, axes: Axes) -> Top:
        """Along the axes of relations."""
        return top_of(self.mesh.points @ axes.T, self.mesh, (axes @ self.turn).T)

    def middle_on(self, foot: Triple, axes: Axes) -> Vector:
        """Where its middle is along the axes of relations, with the middle of its underside there."""
        middle = middle_of(self.mesh.points)
        underside = np.array([middle[0], self.mesh.points[:, 1].min(), middle[2]])
        return middle_of((self.mesh.points - underside + foot) @ axes.T)

    def at(self, place: Vector, axes: Axes) -> Solid:
        """With its middle along the axes of relations at a place."""
        shift = (place - middle_of(self.mesh.points @ axes.T)) @ axes
        return Solid(self.object, self.mesh._replace(points=self.mesh.points + shift))


def body_of(one: SceneObject) -> Body:
    return Body(one, rotation_of(one.rotation))


def rotation_of(degrees: Triple) -> Turn:
    """(3,3): about z first, then x, then y."""
    about_x, about_y, about_z = (_about(axis, math.radians(angle)) for axis, angle in enumerate(degrees))
    return about_y @ about_x @ about_z


def turned_to(way: Vector) -> Turn:
    """(3,3): what turns a front, which is towards z, to (x, z)."""
    return _about(1, math.atan2(way[0], way[1]))


def middle_of(points: Points) -> Vector:
    """(3,): of the box around points."""
    return (points.min(axis=0) + points.max(axis=0)) / 2


def _about(axis: int, angle: float) -> Turn:
    """A turn about one axis, counterclockwise as seen from its end."""
    matrix = np.eye(3)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix[first, [first, second]] = math.cos(angle), -math.sin(angle)
    matrix[second, [first, second]] = math.sin(angle), math.cos(angle)
    return matrix
