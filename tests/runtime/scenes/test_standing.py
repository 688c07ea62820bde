"""Things on something touch it: SciPy's linear programs find a point of both, and its rotations the top's own axes."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.spatial.transform import Rotation

from runtime.errors import FieldError
from runtime.scenes import Camera, Relation, Scene, SceneObject

SOME = settings(max_examples=60, deadline=None)
TIGHT = 1e-6
OBLIQUE = Camera((3, 2.5, 3), (0, 0.5, 0))
TABLE = (2.0, 0.7, 0.4)


def table(**more: Any) -> SceneObject:
    return SceneObject("a table", TABLE, name="table", **more)


def on(count: int, size: float = 0.1) -> tuple[list[SceneObject], list[Relation]]:
    cups = [SceneObject("a cup", (size, size, size), name=f"{i}") for i in range(count)]
    return cups, [Relation(one.id, "on", "table") for one in cups]


def touches(above: np.ndarray, below: np.ndarray) -> bool:
    """Whether the convex hulls of the lowest corners of one and of the highest of the other have a point in common."""
    low = above[above[:, 1] <= above[:, 1].min() + TIGHT]
    high = below[below[:, 1] >= below[:, 1].max() - TIGHT]
    n, m = len(low), len(high)
    same = np.hstack([low.T, -high.T])
    ones = np.array([[1.0] * n + [0.0] * m, [0.0] * n + [1.0] * m])
    found = linprog(np.zeros(n + m), np.vstack([same, -same]), np.full(6, TIGHT), ones, np.ones(2))
    return bool(found.success)


objects = st.builds(
    lambda size, shape, turn: {"size": size, "shape": shape, "rotation": turn},
    st.tuples(*[st.floats(0.1, 2)] * 3),
    st.sampled_from(["cuboid", "sphere", "cone"]),
    st.sampled_from([(0, 0, 0), (0, 35, 0), (20, -60, 45), (90, 0, 0), (0, 10, 90), (180, 70, 0)]),
)
cameras = st.sampled_from([None, OBLIQUE, Camera((-1, 4, -2), (0, 0, 0))])


@SOME
@given(objects, objects, cameras)
def test_one_on_another_touches_it(above: dict[str, Any], below: dict[str, Any], camera: Camera | None) -> None:
    made = [SceneObject("a thing", name=name, **one) for name, one in (("a", above), ("b", below))]
    first, second = Scene(made, [Relation("a", "on", "b")], camera).solids
    assert first.mesh.points[:, 1].min() == pytest.approx(second.mesh.points[:, 1].max(), abs=TIGHT)
    assert touches(first.mesh.points, second.mesh.points)


def within(scene: Scene, degrees: float) -> bool:
    """Whether all cups are over the top of the first object, a table that is turned so about the vertical."""
    corners = scene.solids[0].mesh.points
    middle, back = (
        (corners.min(axis=0) + corners.max(axis=0)) / 2,
        Rotation.from_euler("y", degrees, degrees=True).inv(),
    )
    cups = [back.apply(one.mesh.points - middle) for one in scene.solids if one.object.phrase == "a cup"]
    return bool((abs(np.concatenate(cups))[:, [0, 2]] <= np.array(TABLE)[[0, 2]] / 2 + TIGHT).all())


@pytest.mark.parametrize("camera", [None, OBLIQUE, Camera((0, 2, -5), (0, 0, 0)), Camera((5, 2, 1), (0, 0, 0))])
@pytest.mark.parametrize("degrees", [0, 30, 45, 90, -100])
@pytest.mark.parametrize("count", [1, 4])
def test_things_are_over_a_turned_top(camera: Camera | None, degrees: float, count: int) -> None:
    cups, relations = on(count)
    assert within(Scene([table(rotation=(0, degrees, 0)), *cups], relations, camera), degrees)


def test_things_are_spread_over_a_turned_top() -> None:
    """Four in a row: half a metre between them."""
    cups, relations = on(4)
    scene = Scene([table(rotation=(0, 30, 0)), *cups], relations)
    middles = np.array([solid.mesh.points.mean(axis=0) for solid in scene.solids[1:]])
    np.testing.assert_allclose(np.linalg.norm(np.diff(middles, axis=0), axis=1), 0.5, atol=0.02)


@pytest.mark.parametrize("camera", [None, OBLIQUE])
@pytest.mark.parametrize("other", ["camera", "lamp"])
def test_things_are_over_a_top_that_faces_something(camera: Camera | None, other: str) -> None:
    """The table's front, which is towards z, is turned to the lamp or to the camera."""
    cups, relations = on(4)
    lamp = SceneObject("a lamp", (0.3, 1, 0.3), name="lamp")
    facing, beside = Relation("table", "facing", other), Relation("lamp", "left of", "table", 1)
    scene = Scene([table(), *cups, lamp], [*relations, facing, beside], camera)
    corners = [solid.mesh.points for solid in scene.solids]
    middle = (corners[0].min(axis=0) + corners[0].max(axis=0)) / 2
    straight = np.array([0.0, 0.0, 1.0]) if camera is None else np.array(camera.position) - middle
    way = corners[-1].mean(axis=0) - middle if other == "lamp" else straight
    degrees = float(np.degrees(np.arctan2(way[0], way[2])))
    assert within(scene, degrees)


def test_what_has_a_position_stands_on_a_turned_top_where_it_was_put() -> None:
    turned = table(rotation=(0, 45, 0), position=(0, 0, 0))
    for place, fits in ((0.6, True), (0.75, False)):  # along its length, of which half is a metre
        cup = SceneObject("a cup", (0.1, 0.1, 0.1), name="cup", position=(place, 0.7, -place))
        try:
            assert Scene([turned, cup], [Relation("cup", "on", "table")]).solids and fits
        except FieldError as error:
            assert not fits and "contradicts the objects' positions" in str(error)


def test_relations_among_things_on_a_turned_top() -> None:
    cups, relations = on(3)
    behind = Relation("2", "left of", "0")
    scene = Scene([table(rotation=(0, 40, 0)), *cups], [*relations, behind])
    first, _, third = (solid.mesh.points for solid in scene.solids[1:])
    assert third[:, 0].max() < first[:, 0].min() and within(scene, 40)


@pytest.mark.parametrize(("shape", "turn"), [("sphere", (0, 0, 0)), ("cone", (0, 0, 0)), ("cuboid", (0, 0, 45))])
def test_a_tip_has_room_for_one(shape: str, turn: tuple[float, float, float]) -> None:
    below = SceneObject("a ball", (1, 1, 1), name="table", shape=shape, rotation=turn)
    for count in (1, 2):
        cups, relations = on(count)
        try:
            Scene([below, *cups], relations)
            assert count == 1
        except FieldError as error:
            assert (count, error.field) == (2, "relations.1")
            assert "'table' has no flat top" in str(error) and "put '1' on something else" in str(error)


def test_a_cone_on_its_side_has_a_line_for_a_top() -> None:
    """From its tip to its rim, both at one height: 2 m wide and 1 m high, its side is 45 degrees steep."""
    cone = SceneObject("a cone", (2, 1, 0.3), name="b", shape="cone", rotation=(20, -60, 45))
    ball = SceneObject("a ball", (1, 0.3, 0.1), name="a", shape="sphere", rotation=(20, -60, 45))
    above, below = (solid.mesh.points for solid in Scene([ball, cone], [Relation("a", "on", "b")]).solids)
    assert touches(above, below)


def test_a_cone_on_its_tip_has_a_flat_top() -> None:
    cups, relations = on(4)
    below = SceneObject("a cone", (1, 1, 1), name="table", shape="cone", rotation=(180, 0, 0))
    scene = Scene([below, *cups], relations)
    middle = scene.solids[0].mesh.points[:, [0, 2]].mean(axis=0)
    for solid in scene.solids[1:]:
        assert np.linalg.norm(solid.mesh.points[:, [0, 2]] - middle, axis=1).max() <= 0.5


def test_one_on_a_lying_ring_is_not_in_its_hole() -> None:
    """The tube's highest line is a circle of 0.36 m."""
    ring = SceneObject("a ring", (1, 1, 0.2), name="table", shape="torus", rotation=(90, 0, 0))
    cups, relations = on(1)
    below, cup = (solid.mesh.points for solid in Scene([ring, *cups], relations).solids)
    middle = (below.min(axis=0) + below.max(axis=0)) / 2
    assert np.linalg.norm((cup.mean(axis=0) - middle)[[0, 2]]) == pytest.approx(0.36, abs=0.01)
    assert cup[:, 1].min() == pytest.approx(0.2)
