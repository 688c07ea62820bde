"""Objects in the world: their shapes sized, turned and put where they were told or where relations have room."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.scenes.camera import Axes, ground_axes
from runtime.scenes.graph import Edge
from runtime.scenes.parts import Camera, SceneObject, Triple
from runtime.scenes.relations import NEAR, RIGHT, Two
from runtime.scenes.shapes import SHAPES, Mesh, Points
from runtime.scenes.solver import Link, Places, Problem, solve

Vector = NDArray[np.float64]  # (3,)


@dataclass(frozen=True, eq=False)
class Solid:
    """An object in its place; its corners are in metres of the world."""

    object: SceneObject
    mesh: Mesh


def place_objects(objects: Sequence[SceneObject], edges: Sequence[Edge], camera: Camera | None) -> list[Solid]:
    """The objects where they were put, the others where the relations have room, and those that face something turned.

    Raises:
        FieldError: relations that cannot hold, or no room.
    """
    axes = ground_axes(camera)
    turned = {edge.subject: edge for edge in edges if edge.turns}
    meshes = [_mesh(one) for one in objects]
    sizes = np.array([_size(mesh, axes, i in turned) for i, mesh in enumerate(meshes)])
    fixed = {
        i: _middle(_put(meshes[i], one.position).points @ axes.T)
        for i, one in enumerate(objects)
        if one.position is not None
    }
    links = _links(edges, sizes)
    places = _centred(solve(Problem([one.id for one in objects], sizes, fixed, links)), bool(fixed))
    for i, edge in turned.items():
        meshes[i] = _turned(meshes[i], _direction(places, edge, axes, camera))
    return [Solid(*one) for one in zip(objects, map(_at, meshes, places, [axes] * len(meshes)), strict=True)]


def rotation_of(degrees: Triple) -> NDArray[np.float64]:
    """(3,3): about z first, then x, then y."""
    about_x, about_y, about_z = (_about(axis, math.radians(angle)) for axis, angle in enumerate(degrees))
    return about_y @ about_x @ about_z


def _about(axis: int, angle: float) -> NDArray[np.float64]:
    """A turn about one axis, counterclockwise as seen from its end."""
    matrix = np.eye(3)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix[first, [first, second]] = math.cos(angle), -math.sin(angle)
    matrix[second, [first, second]] = math.sin(angle), math.cos(angle)
    return matrix


def _mesh(one: SceneObject) -> Mesh:
    """The object, turned, around the origin."""
    mesh = SHAPES[one.shape]()
    return mesh._replace(points=mesh.points * one.size @ rotation_of(one.rotation).T)


def _size(mesh: Mesh, axes: Axes, is_turned: bool) -> Vector:
    """How large it is along the axes; of what is yet to be turned, whichever way it will be."""
    size = np.ptp(mesh.points @ axes.T, axis=0)
    if is_turned:
        size[[RIGHT, NEAR]] = 2 * np.hypot(mesh.points[:, 0], mesh.points[:, 2]).max()
    return size


def _middle(points: Points) -> Vector:
    return (points.min(axis=0) + points.max(axis=0)) / 2


def _put(mesh: Mesh, foot: Triple) -> Mesh:
    """With the middle of its underside there."""
    middle = _middle(mesh.points)
    underside = np.array([middle[0], mesh.points[:, 1].min(), middle[2]])
    return mesh._replace(points=mesh.points - underside + foot)


def _at(mesh: Mesh, place: Vector, axes: Axes) -> Mesh:
    """With its middle along the axes at a place."""
    return mesh._replace(points=mesh.points + (place - _middle(mesh.points @ axes.T)) @ axes)


def _links(edges: Sequence[Edge], sizes: NDArray[np.float64]) -> list[Link]:
    """Of relations between objects."""
    return [
        Link(
            edge.relation,
            Two(edge.subject, edge.object, (sizes[edge.subject], sizes[edge.object]), edge.gap),
            edge.field,
        )
        for edge in edges
        if edge.object is not None
    ]


def _centred(places: Places, is_fixed: bool) -> Places:
    """Around the origin, where no place was given; their heights stay."""
    if is_fixed:
        return places
    return places - _middle(places) * (1, 0, 1)


def _direction(places: Places, edge: Edge, axes: Axes, camera: Camera | None) -> Vector:
    """(x, z) from the object to what it faces, or away from it. A camera of our own is straight before the scene."""
    if edge.object is not None:
        way = (places[edge.object] - places[edge.subject]) @ axes
    elif camera is not None:
        way = np.array(camera.position) - places[edge.subject] @ axes
    else:
        way = axes[NEAR]
    return edge.turns * way[[0, 2]]


def _turned(mesh: Mesh, way: Vector) -> Mesh:
    """With its front, which is towards z, that way."""
    return mesh._replace(points=mesh.points @ _about(1, math.atan2(way[0], way[1])).T)
