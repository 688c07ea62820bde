"""What can be one way or the other: found where it can be, refused after so much work where it cannot, by the relation
that is at fault."""

import random
from collections.abc import Iterator, Sequence

import pytest

from runtime.errors import FieldError
from runtime.messages import LONGEST
from runtime.scenes import Relation, Scene, SceneObject
from runtime.scenes.limits import System

MOST_WORK = 6000  # systems that are made; a hundred thousandth of a second's work each, or a few


@pytest.fixture(autouse=True)
def work(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Counts what is tried, and ends what would go on for hours."""
    done, with_limits = [0], System.with_limits

    def counted(*arguments: object) -> System | None:
        done[0] += 1
        assert done[0] <= MOST_WORK
        return with_limits(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(System, "with_limits", counted)
    yield done


def cube(name: str, x: float | None = None, size: float = 1) -> SceneObject:
    return SceneObject("a cube", (size, 1, size), name=name, position=None if x is None else (x, 0, 0))


def pairs(count: int) -> tuple[list[SceneObject], list[Relation]]:
    """Each can stand in four ways, whatever the others do."""
    objects = [cube(f"{side}{i}") for i in range(count) for side in "pq"]
    return objects, [Relation(f"p{i}", "next to", f"q{i}") for i in range(count)]


def around(count: int) -> tuple[list[SceneObject], list[Relation]]:
    """Too many for one object's four sides."""
    return [cube(f"{i}") for i in range(count + 1)], [Relation(f"{i}", "next to", "0") for i in range(1, count + 1)]


def tangle(seed: int, count: int = 30, relations: int = 200) -> tuple[list[SceneObject], list[Relation]]:
    chance = random.Random(seed)
    names = ("next to", "next to", "behind", "left of")
    two = [chance.sample(range(count), 2) for _ in range(relations)]
    return [cube(f"{i}") for i in range(count)], [Relation(f"{a}", chance.choice(names), f"{b}") for a, b in two]


def far_apart() -> tuple[list[SceneObject], list[Relation]]:
    objects, relations = pairs(14)
    return [cube("a", 0), cube("b", 100), *objects], [*relations, Relation("a", "next to", "b")]


def far_apart_by_two() -> tuple[list[SceneObject], list[Relation]]:
    """Each of the last two relations can hold, and both cannot."""
    objects, relations = pairs(13)
    more = [Relation("a", "next to", "c"), Relation("c", "next to", "b")]
    return [cube("a", 0), cube("b", 100), cube("c"), *objects], [*relations, *more]


@pytest.mark.parametrize(
    ("scene", "fields"),
    [
        (far_apart(), ["relations.14"]),
        (far_apart_by_two(), ["relations.13", "relations.14"]),
        (around(29), [f"relations.{i}" for i in range(29)]),
        (around(9), [f"relations.{i}" for i in range(9)]),
        *((tangle(seed), [f"relations.{i}" for i in range(200)]) for seed in range(3)),
        *((tangle(seed, relations=40), [f"relations.{i}" for i in range(40)]) for seed in range(3)),
    ],
)
def test_what_cannot_be_is_refused_by_its_relation(
    scene: tuple[list[SceneObject], list[Relation]], fields: Sequence[str]
) -> None:
    with pytest.raises(FieldError) as error:
        Scene(*scene)
    assert error.value.field in fields
    assert "cannot hold: it contradicts" in str(error.value) or "or leave the relation out" in str(error.value)
    assert len(str(error.value)) < LONGEST and "\n" not in str(error.value)


def test_the_work_grows_with_the_pairs_and_not_by_a_factor_each(work: list[int]) -> None:
    counts = []
    for count in (5, 10):
        work[0] = 0
        Scene(*pairs(count))
        counts.append(work[0])
    assert counts[1] < 6 * counts[0]


def test_a_side_that_is_taken_is_left_early() -> None:
    """The chair could only be to the right of the table in front of twelve pairs' 4^12 ways; a lamp stands there."""
    objects, relations = pairs(12)
    chair = Relation("chair", "next to", "table")
    scene = Scene([cube("table", 0), cube("lamp", 1.2), cube("chair"), *objects], [chair, *relations])
    table, lamp, chaired = (solid.mesh.points for solid in scene.solids[:3])
    assert chaired[:, 0].max() < table[:, 0].min() < lamp[:, 0].min()


def test_two_that_have_to_overlap_are_named() -> None:
    """Both are exactly on the middle of one post."""
    post = SceneObject("a post", (0.2, 1, 0.2), name="post")
    with pytest.raises(FieldError) as error:
        Scene([post, cube("a"), cube("b")], [Relation("a", "on", "post"), Relation("b", "on", "post")])
    assert error.value.field == "relations.1"
    assert "no room is found for 'b' on 'post', for 'a' and 'b' are in each other's way" in str(error.value)


def test_nothing_is_in_its_own_way() -> None:
    """Sums of limits are rounded, which takes no room: a chain of odd sizes, with everything in it told exactly."""
    for seed in range(200):
        chance = random.Random(seed)
        size = [chance.uniform(0.1, 3) for _ in range(6)]
        boxes = [SceneObject("a box", (one, one, one), name=f"{i}") for i, one in enumerate(size)]
        ground = SceneObject("a box", (9.1, 0.3, 9.7), name="6", position=(0.1, 0.2, 0.3))
        pile = [Relation(f"{i}", "on", f"{i + 1}") for i in range(6)]
        assert len(Scene([*boxes, ground], pile).solids) == 7
