"""Of what is behind something about half is seen, by the pixels that are drawn of it."""

import pytest

from runtime.scenes import Camera, Relation, Scene, SceneObject

ABOUT_HALF = 0.44  # pixels' edges, and the sides that perspective shows
CAMERAS = [None, Camera((3, 2.5, 3), (0, 0.5, 0)), Camera((0, 1.5, 6), (0, 0.5, 0)), Camera((1, 1, 4), (0, 0.5, 0), 60)]
SIZES = [(256, 256), (256, 512), (384, 256)]


def seen(scene: Scene, phrase: str, size: tuple[int, int]) -> float:
    """The share of an object that nothing covers."""
    shot = scene.shot(size)
    number = [one.phrase for one in scene.objects].index(phrase)
    return float((shot.shown == number).sum() / (shot.drawn[number].nearness > 0).sum())


@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("sofa", [(2, 1, 1), (1, 1, 1), (1.2, 0.5, 0.7)])
@pytest.mark.parametrize("cat", [0.15, 0.3, 0.5, 1, 2])
def test_half_is_seen(cat: float, sofa: tuple[float, float, float], camera: Camera | None) -> None:
    objects = [SceneObject("a cat", (cat, cat, cat)), SceneObject("a sofa", sofa)]
    for relation in (Relation("a cat", "behind", "a sofa"), Relation("a sofa", "in front of", "a cat")):
        for order in (objects, objects[::-1]):
            shares = [seen(Scene(order, [relation], camera), "a cat", size) for size in SIZES]
            assert min(shares) > ABOUT_HALF, (relation, order, shares)


def test_half_is_seen_in_a_larger_scene() -> None:
    """Off the middle, and with a camera that all of it moves away."""
    objects = [
        SceneObject("a sofa", (2, 1, 1)),
        SceneObject("a cat", (0.3, 0.3, 0.3)),
        SceneObject("a wall", (1, 3, 0.2)),
        SceneObject("a ball", (0.3, 0.3, 0.3), shape="sphere"),
    ]
    relations = [
        Relation("a cat", "behind", "a sofa"),
        Relation("a wall", "left of", "a sofa", 4),
        Relation("a ball", "in front of", "a sofa"),
    ]
    scene = Scene(objects, relations)
    assert seen(scene, "a cat", (256, 256)) > ABOUT_HALF and seen(scene, "a sofa", (256, 256)) > ABOUT_HALF


def test_it_is_no_further_aside_than_it_has_to_be() -> None:
    """From so far away that perspective tells nothing, its middle is behind the sofa's edge."""
    objects = [SceneObject("a cat", (0.3, 0.3, 0.3)), SceneObject("a sofa", (2, 1, 1), position=(0, 0, 0))]
    scene = Scene(objects, [Relation("a cat", "behind", "a sofa")], Camera((0, 20, 20000), (0, 0, 0), 1))
    assert scene.solids[0].mesh.points[:, 0].mean() == pytest.approx(1, abs=0.01)
