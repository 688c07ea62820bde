import numpy as np
import pytest

from benchmarks.tabletop.models import CONTEXT, make_tokenizer
from benchmarks.tabletop.scenes import (
    CATEGORIES,
    CLASS_IDS,
    COLORS,
    NUMBERS,
    RELATIONS,
    SIDE,
    STYLES,
    Scene,
    Thing,
    coverage,
    depth_map,
    holds,
    label_map,
    landmarks,
    render,
    sample_scene,
)

SCENES = [sample_scene(np.random.default_rng(i), CATEGORIES[i % 4]) for i in range(200)]


@pytest.mark.parametrize("style", STYLES)
def test_same_seed_same_picture(style):
    first, second = (render(SCENES[3], style, np.random.default_rng(1)) for _ in range(2))
    assert first.shape == (SIDE, SIDE, 3) and first.dtype == np.float32
    assert first.min() >= 0 and first.max() <= 1
    np.testing.assert_array_equal(first, second)


def test_flat_style_has_one_ground_and_pure_colors():
    image = render(SCENES[0], "flat", np.random.default_rng(0))
    covered = np.max([coverage(thing) for thing in SCENES[0].things], axis=0)
    assert len(np.unique(image[covered == 0], axis=0)) == 1


@pytest.mark.parametrize("scene", SCENES[:40], ids=lambda scene: scene.caption)
def test_things_fill_their_boxes(scene: Scene):
    for thing in scene.things:
        rows, columns = np.nonzero(coverage(thing) > 0.4)
        found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / SIDE
        np.testing.assert_allclose(found, thing.box, atol=2 / SIDE)


@pytest.mark.parametrize("scene", SCENES[:40], ids=lambda scene: scene.caption)
def test_landmarks_span_their_boxes(scene: Scene):
    for thing in scene.things:
        x, y = np.array(landmarks(thing)).T
        np.testing.assert_allclose((x.min(), y.min(), x.max(), y.max()), thing.box, atol=2.5 / SIDE)


# Sampled objects do not overlap; these do, and of two the lower one hides the other.
HEAP = Scene(
    "",
    "complex",
    (
        Thing("cube", "green", (0.40, 0.45, 0.80, 0.85)),
        Thing("ball", "red", (0.15, 0.10, 0.60, 0.60)),
        Thing("ring", "blue", (0.45, 0.55, 0.85, 0.95)),
        Thing("cone", "yellow", (0.05, 0.30, 0.45, 0.70)),
    ),
)


def seen_alone(scene: Scene, thing: Thing) -> np.ndarray:
    """(128, 128) bool: pixels of the flat rendering that have the object's colour, unmixed."""
    image = render(scene, "flat", np.random.default_rng(0))
    return np.abs(image - COLORS[thing.color]).max(-1) < 1e-3


def test_labels_say_what_is_seen():
    labels, ground = label_map(HEAP), np.max([coverage(thing) for thing in HEAP.things], axis=0) == 0
    assert labels.dtype == np.uint8 and set(labels[ground]) == {0}
    assert (np.sum([coverage(thing) == 1 for thing in HEAP.things], axis=0) > 1).sum() > 400  # much is hidden
    for thing in HEAP.things:
        seen = seen_alone(HEAP, thing)
        assert seen.sum() > 320 and set(labels[seen]) == {CLASS_IDS[thing.kind]}


def test_depth_is_of_what_is_seen():
    depth = depth_map(HEAP)
    for thing in HEAP.things:
        alone, seen = depth_map(Scene("", "attribute", (thing,))), seen_alone(HEAP, thing)
        np.testing.assert_array_equal(depth[seen], alone[seen])


def test_depth_by_hand():
    """A ball, 0.4 wide, that stands at 0.75: its middle is 0.8 * 0.4 nearer than the ground there, 0.6 * 0.75."""
    depth = depth_map(Scene("", "attribute", (Thing("ball", "red", (0.3, 0.35, 0.7, 0.75)),)))
    assert depth.shape == (128, 128) and depth.dtype == np.float32
    np.testing.assert_allclose(depth[:, 0], 0.6 * (np.arange(128) + 0.5) / 128, rtol=1e-6)
    x = ((np.arange(128) + 0.5) / 128 - 0.5) / 0.2  # in radii from the middle; row 70 is 0.004 of one below it
    assert x[89] < 1 < x[90]
    for column in (64, 76, 89):
        expected = 0.6 * 0.75 + 0.8 * 0.4 * (1 - x[column] ** 2) ** 0.5
        assert depth[70, column] == pytest.approx(expected, abs=2e-3)
    assert depth[70, 90] == depth[70, 0]


@pytest.mark.parametrize("scene", SCENES[:40], ids=lambda scene: scene.caption)
def test_things_stand_out_from_the_ground(scene: Scene):
    depth, ground = depth_map(scene), depth_map(Scene("", "attribute", ()))
    assert depth.min() >= 0 and depth.max() <= 1
    for thing in scene.things:
        middle = coverage(thing) > 0.99
        assert (depth - ground)[middle].min() >= 0 and (depth - ground)[middle].mean() > 0.05


def test_captions_say_what_is_there():
    for scene in SCENES:
        looks = [(t.color, t.kind) for t in scene.things]
        for color, kind in set(looks):
            count = looks.count((color, kind))
            name = f"a {color} {kind}" if count == 1 else f"{NUMBERS[count]} {color} {kind}s"
            assert name in scene.caption
        relation = next((r for r in RELATIONS if f" {r} " in scene.caption), None)
        assert (relation is not None) == (scene.category == "spatial")
        if relation:
            assert holds(relation, scene.things[0].box, scene.things[1].box)


def test_every_caption_fits_the_vocabulary_and_the_context():
    tokenizer = make_tokenizer()
    unknown = tokenizer.token_to_id("<|unknown|>")
    tokenizer.no_truncation()
    for scene in SCENES:
        ids = tokenizer.encode(scene.caption).ids
        assert unknown not in ids and len(ids) == CONTEXT
