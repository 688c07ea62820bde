import numpy as np
import pytest

from benchmarks.tabletop.models import CONTEXT, make_tokenizer
from benchmarks.tabletop.scenes import CATEGORIES, NUMBERS, RELATIONS, Scene, coverage, holds, render, sample_scene

SCENES = [sample_scene(np.random.default_rng(i), CATEGORIES[i % 4]) for i in range(200)]


@pytest.mark.parametrize("style", ["realistic", "flat"])
def test_same_seed_same_picture(style):
    first, second = (render(SCENES[3], style, np.random.default_rng(1)) for _ in range(2))
    assert first.shape == (64, 64, 3) and first.dtype == np.float32
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
        found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / 64
        np.testing.assert_allclose(found, thing.box, atol=2 / 64)


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
