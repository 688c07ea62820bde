"""Relations hold in metres after solving, whatever the graph; what is refused cannot be, by SciPy's linear programs."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from runtime.errors import FieldError
from runtime.scenes import Camera, Relation, Scene, SceneObject

SOME = settings(max_examples=60, deadline=None)
TIGHT = 1e-6
PLAIN = ("left of", "right of", "in front of", "behind", "above", "below", "on")
# (axis, sign): the subject's middle is on that side; axes are x, y, z, as the default camera is in line with them
SIDES = {
    "left of": (0, -1),
    "right of": (0, 1),
    "above": (1, 1),
    "below": (1, -1),
    "in front of": (2, 1),
    "behind": (2, -1),
}

Box = tuple[np.ndarray, np.ndarray]  # least and largest corner


def thing(i: int, size: tuple[float, float, float] = (1, 1, 1), **more: Any) -> SceneObject:
    return SceneObject("a thing", size, name=f"{i}", **more)


def extents(scene: Scene) -> list[Box]:
    return [(solid.mesh.points.min(axis=0), solid.mesh.points.max(axis=0)) for solid in scene.solids]


def holds(relation: str, a: Box, b: Box, asked: float | None) -> bool:
    """A gap that was not asked for is a fifth of the smaller one along the axis."""
    (a0, a1), (b0, b1) = a, b
    if relation in SIDES:
        axis, sign = SIDES[relation]
        free = a0[axis] - b1[axis] if sign > 0 else b0[axis] - a1[axis]
        gap = 0.2 * min(a1[axis] - a0[axis], b1[axis] - b0[axis]) if asked is None else asked
        return bool(free >= gap - TIGHT)
    if relation == "on":
        over = [max(a0[axis], b0[axis]) <= min(a1[axis], b1[axis]) + TIGHT for axis in (0, 2)]
        return all(over) and abs(a0[1] - b1[1]) < TIGHT
    assert relation == "next to"
    away = np.maximum(np.maximum(a0 - b1, b0 - a1), 0)
    axis = int(away[[0, 2]].argmax()) * 2
    smaller = min(a1[axis] - a0[axis], b1[axis] - b0[axis])
    gap = 0.2 * smaller if asked is None else asked
    return bool(gap - TIGHT <= away[axis] <= gap + 0.5 * smaller + TIGHT and away[1] == 0)


def overlap(a: Box, b: Box) -> bool:
    return bool((np.minimum(a[1], b[1]) - np.maximum(a[0], b[0]) > TIGHT).all())


@st.composite
def graphs(draw: st.DrawFn, relations: tuple[str, ...]) -> tuple[list[SceneObject], list[Relation]]:
    count = draw(st.integers(2, 7))
    sizes = st.tuples(*[st.floats(0.1, 2)] * 3)
    shapes = st.sampled_from(["cuboid", "sphere", "cone", "torus"])
    rotations = st.sampled_from([(0.0, 0.0, 0.0), (0.0, 35.0, 0.0), (20.0, -60.0, 45.0)])
    objects = [thing(i, draw(sizes), shape=draw(shapes), rotation=draw(rotations)) for i in range(count)]
    pairs = st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=6)
    found = [
        Relation(f"{a}", name, f"{b}", draw(st.none() | st.floats(0, 1)) if name != "on" else None)
        for a, b in draw(pairs)
        if a != b
        for name in [draw(st.sampled_from(relations))]
    ]
    return objects, found


@SOME
@given(graphs((*PLAIN, "next to")))
def test_relations_hold_and_nothing_overlaps(graph: tuple[list[SceneObject], list[Relation]]) -> None:
    objects, relations = graph
    try:
        found = extents(Scene(objects, relations))
    except FieldError:
        return
    for one in relations:
        a, b = found[int(one.subject)], found[int(one.object)]
        assert holds(one.relation, a, b, one.gap), (one, a, b)
    assert not any(overlap(found[i], found[j]) for i in range(len(found)) for j in range(i))
    assert min(low[1] for low, _ in found) >= -TIGHT


@SOME
@given(graphs(PLAIN))
def test_what_contradicts_is_refused_and_nothing_else(graph: tuple[list[SceneObject], list[Relation]]) -> None:
    objects, given = graph
    relations = [one for one in given if one.relation != "on" or is_plain(objects, one)]
    try:
        Scene(objects, relations)
        assert is_feasible(objects, relations)
    except FieldError as error:
        if "contradicts" in str(error):
            assert not is_feasible(objects, relations)
            named = [relations[int(name.split(".")[1])] for name in str(error).split("contradicts ")[1].split(", ")]
            at_fault = relations[int(error.field.split(".")[1])]
            assert not is_feasible(objects, [*named, at_fault])
            assert is_feasible(objects, named)
            assert all(is_feasible(objects, [at_fault, *(o for o in named if o is not one)]) for one in named)


def is_plain(objects: list[SceneObject], one: Relation) -> bool:
    """Whether the room on the object is that of its box."""
    above, below = objects[int(one.subject)], objects[int(one.object)]
    return below.shape == "cuboid" and not any(below.rotation) and above.rotation[0] == above.rotation[2] == 0


def is_feasible(objects: list[SceneObject], relations: list[Relation]) -> bool:
    """Whether a linear program has a solution: middles along x, y, z, one after the other."""
    sizes = np.array([np.ptp(Scene([one]).solids[0].mesh.points, axis=0) for one in objects])
    n = len(objects)
    rows: dict[int, list[tuple[np.ndarray, float]]] = {0: [], 1: [], 2: []}

    def at_most(axis: int, a: int, b: int, value: float) -> None:
        row = np.zeros(n)
        row[a], row[b] = 1, -1
        rows[axis].append((row, value))

    for one in relations:
        a, b = int(one.subject), int(one.object)
        touch = (sizes[a] + sizes[b]) / 2
        if one.relation == "on":
            at_most(1, a, b, touch[1])
            at_most(1, b, a, -touch[1])
            for axis in (0, 2):
                room = max(sizes[b][axis] - sizes[a][axis], 0) / 2
                at_most(axis, a, b, room)
                at_most(axis, b, a, room)
            continue
        axis, sign = SIDES[one.relation]
        gap = 0.2 * min(sizes[a][axis], sizes[b][axis]) if one.gap is None else one.gap
        at_most(axis, *((b, a) if sign > 0 else (a, b)), -touch[axis] - gap)
    for axis, limits in rows.items():
        if limits:
            lows = sizes[:, 1] / 2 if axis == 1 else np.full(n, None)
            found = linprog(
                np.zeros(n),
                np.array([row for row, _ in limits]),
                [value for _, value in limits],
                bounds=[(low, None) for low in lows],
            )
            if found.status == 2:
                return False
    return True


def test_places_by_hand() -> None:
    """A cube of 1 m at x = 3, one left of it with half a metre between, and one on that."""
    objects = [thing(0, position=(3, 0, -2)), thing(1), thing(2, (0.5, 0.5, 0.5))]
    scene = Scene(objects, [Relation("1", "left of", "0", 0.5), Relation("2", "on", "1")])
    first, second, third = extents(scene)
    np.testing.assert_allclose(first, [(2.5, 0, -2.5), (3.5, 1, -1.5)])
    np.testing.assert_allclose(second, [(1, 0, -2.5), (2, 1, -1.5)])
    np.testing.assert_allclose(third, [(1.25, 1, -2.25), (1.75, 1.5, -1.75)])


def test_relations_are_as_the_camera_sees_them() -> None:
    """From the side of x, its right is towards -z: what is left of something has the larger z."""
    scene = Scene([thing(0), thing(1)], [Relation("1", "left of", "0")], Camera((6, 2, 0), (0, 0, 0)))
    first, second = extents(scene)
    assert second[0][2] > first[1][2]
    boxes = [region.box for region in scene.layout((64, 64)).regions]
    assert boxes[1][2] <= boxes[0][0]


@pytest.mark.parametrize("gap", [0.0, 1.25])
def test_a_gap_is_kept_and_not_exceeded(gap: float) -> None:
    first, second = extents(Scene([thing(0), thing(1)], [Relation("1", "behind", "0", gap)]))
    assert first[0][2] - second[1][2] == pytest.approx(gap)


def test_many_stand_beside_each_other_on_one_thing() -> None:
    table = thing(0, (2, 0.7, 1))
    cups = [thing(i, (0.3, 0.3, 0.3)) for i in range(1, 9)]
    found = extents(Scene([table, *cups], [Relation(f"{i}", "on", "0") for i in range(1, 9)]))
    assert all(holds("on", cup, found[0], 0) for cup in found[1:])
    assert not any(overlap(found[i], found[j]) for i in range(9) for j in range(i))


@pytest.mark.parametrize(("relation", "sign"), [("facing", 1), ("facing away from", -1)])
@pytest.mark.parametrize("place", [(3.0, 0.0, 0.0), (-2.0, 0.0, 5.0), (0.0, 0.0, -4.0)])
def test_fronts_are_turned(relation: str, sign: int, place: tuple[float, float, float]) -> None:
    """A plank's broad side, of which the front is one, is square to the line to what it faces."""
    objects = [thing(0, (1, 1, 0.1), position=(0, 0, 0)), thing(1, position=place)]
    scene = Scene(objects, [Relation("0", relation, "1")])
    mesh = scene.solids[0].mesh
    plain = Scene([thing(0, (1, 1, 0.1), position=(0, 0, 0))]).solids[0].mesh.points
    front = mesh.points[plain[:, 2] > 0].mean(axis=0) - mesh.points[plain[:, 2] < 0].mean(axis=0)
    np.testing.assert_allclose(front / np.linalg.norm(front), sign * np.array(place) / np.linalg.norm(place), atol=1e-9)


def test_facing_the_camera() -> None:
    scene = Scene([thing(0, (1, 1, 0.1))], [Relation("0", "facing", "camera")], Camera((5, 1, 0), (0, 0, 0)))
    low, high = extents(scene)[0]
    np.testing.assert_allclose(high - low, (0.1, 1, 1), atol=1e-9)


@pytest.mark.parametrize("count", [1, 2, 12, 28])
def test_a_table_is_filled(count: int) -> None:
    """Seven plates of 0.2 m fit into 1.52 m, and four rows of them into 0.87 m."""
    table, plates = thing(0, (1.52, 1, 0.87)), [thing(i, (0.2, 0.1, 0.2)) for i in range(1, count + 1)]
    found = extents(Scene([table, *plates], [Relation(f"{i}", "on", "0") for i in range(1, count + 1)]))
    assert all(holds("on", plate, found[0], None) for plate in found[1:])
    assert not any(overlap(found[i], found[j]) for i in range(len(found)) for j in range(i))


def test_as_many_as_there_may_be() -> None:
    """Thirty at one place are put side by side: more pairs than Python's recursion is deep."""
    found = extents(Scene([thing(i) for i in range(30)]))
    assert not any(overlap(found[i], found[j]) for i in range(30) for j in range(i))


def test_a_relation_may_be_said_twice() -> None:
    objects, on = [thing(0), thing(1, (0.5, 0.5, 0.5))], Relation("1", "on", "0")
    once, twice = (extents(Scene(objects, [on] * count)) for count in (1, 2))
    assert holds("on", twice[1], twice[0], None) and holds("on", once[1], once[0], None)
