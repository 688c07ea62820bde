"""The scorer against renderings whose contents are known exactly, none of which defined it."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.tabletop.scenes import COLORS, KINDS, STYLES, Scene, Thing, render, sample_scene
from benchmarks.tabletop.score import find_things, iou, mean_scores, resemblance, score_image


def rendered(index, style):
    rng = np.random.default_rng((99, index))
    scene = sample_scene(rng)
    return render(scene, style, rng), scene


@pytest.mark.parametrize("style", STYLES)
def test_renderings_score_full_marks(style):
    scores = mean_scores(score_image(*rendered(i, style)) for i in range(100))
    assert scores.object_recall >= 0.99
    assert scores.attribute_binding >= 0.99
    assert scores.count_accuracy >= 0.97
    assert scores.in_box >= 0.99
    assert scores.in_region >= 0.99


@pytest.mark.parametrize("color", COLORS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_look_is_named(kind, color):
    thing = Thing(kind, color, (0.3, 0.3, 0.6, 0.6))
    for style in STYLES:
        (found,) = find_things(render(Scene("", "attribute", (thing,)), style, np.random.default_rng(0)))
        assert (found.kind, found.color) == (kind, color)
        assert iou(found.box, thing.box) > 0.75


def test_realism_tells_the_renderings_apart():
    realistic = [resemblance(rendered(i, "realistic")[0], "realistic") for i in range(50)]
    flat = [resemblance(rendered(i, "flat")[0], "realistic") for i in range(50)]
    assert np.mean(realistic) > 0.9 and np.mean(flat) < 0.15
    assert min(realistic) > max(flat)


def test_every_style_is_most_like_itself():
    for style in STYLES:
        assert np.mean([resemblance(rendered(i, style)[0], style) for i in range(50)]) > 0.9
    paper = [resemblance(rendered(i, style)[0], "papercut") for i in range(50) for style in ("realistic", "flat")]
    assert np.mean(paper) < 0.6  # with each of the others it has something in common


def test_realism_falls_as_shading_goes():
    """Blending realistic renderings into the flat ones of the same scenes lowers realism step by step."""
    ends = [np.stack([rendered(i, style)[0] for i in range(10)]) for style in ("realistic", "flat")]
    blends = [(1 - w) * ends[0] + w * ends[1] for w in (0, 0.25, 0.5, 0.75, 1)]
    values = [np.mean([resemblance(image, "realistic") for image in blend]) for blend in blends]
    assert values == sorted(values, reverse=True) and values[0] - values[-1] > 0.7


def test_coarse_renderings_are_less_real():
    coarse = [resemblance(rendered(i, "coarse")[0], "realistic") for i in range(50)]
    assert 0.3 < np.mean(coarse) < 0.6 and max(coarse) < 0.8


def test_each_fault_lowers_its_own_score():
    ball = Thing("ball", "red", (0.1, 0.1, 0.4, 0.4))
    cube = Thing("cube", "blue", (0.55, 0.55, 0.9, 0.9))
    asked = Scene("a red ball and a blue cube", "attribute", (ball, cube))

    def score(*things):
        shown = Scene("", "attribute", things)
        return score_image(render(shown, "realistic", np.random.default_rng(0)), asked)

    right = score(ball, cube)
    assert (right.object_recall, right.attribute_binding, right.count_accuracy, right.in_box) == (1, 1, 1, 1)
    missing = score(ball)
    assert (missing.object_recall, missing.count_accuracy, missing.in_box) == (0.5, 0, 0.5)
    assert (right.in_region, missing.in_region) == (1, 0.5)
    recolored = score(ball, replace(cube, color="green"))
    assert (recolored.object_recall, recolored.attribute_binding, recolored.in_box) == (1, 0.5, 0.5)
    assert recolored.in_region == 1  # a control image tells no colours
    reshaped = score(ball, replace(cube, kind="cone"))
    assert (reshaped.in_box, reshaped.in_region) == (0.5, 0.5)
    moved = score(ball, replace(cube, box=(0.05, 0.55, 0.4, 0.9)))
    assert (moved.attribute_binding, moved.count_accuracy, moved.in_box, moved.in_region) == (1, 1, 0.5, 0.5)
    extra = score(ball, cube, Thing("cone", "pink", (0.6, 0.1, 0.9, 0.4)))
    assert (extra.object_recall, extra.count_accuracy) == (1, 0)


def test_iou_by_counting_pixels():
    a, b = (0.1, 0.2, 0.5, 0.7), (0.3, 0.4, 0.8, 0.9)
    y, x = (np.mgrid[0:1000, 0:1000] + 0.5) / 1000
    inside = [(x > box[0]) & (x < box[2]) & (y > box[1]) & (y < box[3]) for box in (a, b)]
    assert iou(a, b) == pytest.approx((inside[0] & inside[1]).sum() / (inside[0] | inside[1]).sum(), abs=1e-3)
    assert iou(a, (0.6, 0.8, 0.9, 0.9)) == 0
