"""From objects and relations to solids in the world.

Which way objects face depends on where they stand, and what has room on a thing on which way it faces. How far aside
one has to be to be seen depends on where the camera is, which by default depends on all. So the solver is asked again
until nothing changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from runtime.errors import FieldError
from runtime.messages import shown
from runtime.scenes.camera import Axes, framing, ground_axes, view_of
from runtime.scenes.graph import Edge
from runtime.scenes.linking import link_all
from runtime.scenes.parts import Camera, SceneObject
from runtime.scenes.problem import Places, Problem
from runtime.scenes.relations import NEAR, RELATIONS, RIGHT
from runtime.scenes.search import Tries
from runtime.scenes.sight import Eye, is_at
from runtime.scenes.solids import Body, Solid, Vector, body_of, middle_of, turned_to
from runtime.scenes.solver import solve

MOST_PASSES = 6
EYE_PASSES = 3  # after which the camera is left where it is
SETTLED = 1e-6  # of a turn: what may be left to turn
WIDE = (1, 2)  # (H, W): in a wide picture a camera of our own is near, and a nearer thing hides more


def place_objects(objects: Sequence[SceneObject], edges: Sequence[Edge], camera: Camera | None) -> list[Solid]:
    """The objects where they were put, the others where the relations have room, and those that face something turned.

    Raises:
        FieldError: relations that cannot hold, or no room.
    """
    setting = _Setting(edges, camera, has_places=any(one.position is not None for one in objects))
    bodies, eye, tries = [body_of(one) for one in objects], None, Tries()
    for passed in range(MOST_PASSES):
        found = solve(setting.problem(bodies, eye), tries)
        centre = middle_of(found) * (0 if setting.has_places else (1, 0, 1))
        before, bodies = bodies, setting.faced(bodies, found - centre)
        looked, eye = eye, setting.eye(bodies, found, centre) if passed < EYE_PASSES else eye
        restless = setting.restless(before, bodies)
        if not restless and is_at(eye, looked):
            return [body.at(place, setting.axes) for body, place in zip(bodies, found - centre, strict=True)]
    name = shown(objects[restless[0].subject].id, 40)
    raise FieldError(restless[0].field, f"{name!r} has to turn again whenever it is placed; give it a rotation")


@dataclass(frozen=True, eq=False)
class _Setting:
    """What stays as it is while objects are placed."""

    edges: Sequence[Edge]
    camera: Camera | None
    has_places: bool  # that were given; else all of it is centred

    @cached_property
    def axes(self) -> Axes:
        return ground_axes(self.camera)

    @cached_property
    def turned(self) -> dict[int, Edge]:
        """Objects that face something, or away from it."""
        return {edge.subject: edge for edge in self.edges if edge.turns}

    def problem(self, bodies: Sequence[Body], eye: Eye | None) -> Problem:
        sizes = np.array([self._size(body, i) for i, body in enumerate(bodies)])
        given = {i: body.object.position for i, body in enumerate(bodies)}
        fixed = {i: bodies[i].middle_on(foot, self.axes) for i, foot in given.items() if foot is not None}
        links = link_all(self.edges, bodies, sizes, fixed, self.axes)
        return Problem([body.object.id for body in bodies], sizes, fixed, links, eye)

    def _size(self, body: Body, i: int) -> Vector:
        """How large it is along the axes; of what is turned, whichever way it will be."""
        size = np.ptp(body.mesh.points @ self.axes.T, axis=0)
        if i in self.turned:
            size[[RIGHT, NEAR]] = 2 * body.reach
        return size

    def faced(self, bodies: Sequence[Body], places: Places) -> list[Body]:
        """With those turned that face something."""
        return [
            replace(body, turn=turned_to(self._way(places, self.turned[i]))) if i in self.turned else body
            for i, body in enumerate(bodies)
        ]

    def _way(self, places: Places, edge: Edge) -> Vector:
        """(x, z) to what it faces, or away from it. A camera of our own is straight before the scene."""
        if edge.object is not None:
            way = (places[edge.object] - places[edge.subject]) @ self.axes
        elif self.camera is not None:
            way = np.array(self.camera.position) - places[edge.subject] @ self.axes
        else:
            way = self.axes[NEAR]
        return edge.turns * way[[0, 2]]

    def restless(self, before: Sequence[Body], after: Sequence[Body]) -> list[Edge]:
        """Relations that have turned something that others are on, or that is on something."""
        standing = {i for edge in self.edges if edge.relation == "on" for i in (edge.subject, edge.object)}
        return [
            edge
            for i, edge in self.turned.items()
            if i in standing and abs(before[i].turn - after[i].turn).max() > SETTLED
        ]

    def eye(self, bodies: Sequence[Body], places: Places, centre: Vector) -> Eye | None:
        """As it sees objects at places, before they are centred; None where nothing is hidden by another."""
        if not any(RELATIONS[edge.relation].hides for edge in self.edges):
            return None
        solids = [body.at(place, self.axes) for body, place in zip(bodies, places - centre, strict=True)]
        corners = np.concatenate([solid.mesh.points for solid in solids])
        view = view_of(self.camera, WIDE) if self.camera else framing(corners, WIDE)
        return Eye(self.axes @ view.position + centre, self.axes @ view.axes[2])
