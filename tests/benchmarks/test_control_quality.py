"""The shipped ControlNets and T2I-Adapter in diffusers' own pipelines, judged by the scorer, which learns nothing."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from benchmarks.quality.control_quality import Mode, Sampling, draw_all, is_unsettled, load_pipeline, score
from benchmarks.tabletop.scenes import Scene, Thing, held_out_scenes
from benchmarks.tabletop.score import Scores
from export.checkpoints.folders import ROOT
from runtime.errors import RealCompoError

PAIR = ROOT / "engines" / "tabletop"
SCENES = held_out_scenes(8)


def scores(mode: Mode, scenes: Sequence[Scene], prompts: Sequence[str]) -> Scores:
    return score(draw_all(load_pipeline(PAIR, mode), prompts, scenes, mode, Sampling(steps=8)), scenes)


def mirrored(scene: Scene) -> Scene:
    boxes = [(1 - x1, y0, 1 - x0, y1) for x0, y0, x1, y1 in (thing.box for thing in scene.things)]
    things = (replace(thing, box=box) for thing, box in zip(scene.things, boxes, strict=True))
    return replace(scene, things=tuple(things))


@pytest.mark.parametrize("mode", ["segmentation", "depth", "canny", "adapter"])
def test_objects_go_where_the_map_shows_them(mode):
    """Bounds far below docs/tabletop.md's figures; the noise is the same for a map and for its mirror image."""
    prompts = [scene.caption for scene in SCENES]
    for scenes in (SCENES, [mirrored(scene) for scene in SCENES]):
        controlled = scores(mode, scenes, prompts)
        assert controlled.in_region > 0.75 and controlled.in_box > 0.6 and controlled.realism > 0.7


def test_without_a_map_they_do_not():
    alone = scores("text_to_image", SCENES, [scene.caption for scene in SCENES])
    assert alone.object_recall > 0.7 and alone.in_region < 0.3


@pytest.mark.parametrize(
    ("looks", "unsettled"),
    [
        ([("ball", "red"), ("cube", "red")], False),
        ([("ball", "red"), ("ball", "red")], False),
        ([("ball", "red"), ("ball", "blue"), ("cube", "red")], True),
    ],
)
def test_two_colours_of_a_kind_are_unsettled(looks, unsettled):
    things = tuple(Thing(kind, color, (0.0, 0.0, 0.3, 0.3)) for kind, color in looks)
    assert is_unsettled(Scene("", "complex", things)) == unsettled


@pytest.mark.parametrize(("mode", "trained"), [("depth", "controlnet depth"), ("adapter", "adapter canny")])
def test_what_is_missing_is_named(mode, trained, tmp_path):
    (tmp_path / "text_to_image").symlink_to(PAIR / "text_to_image")
    with pytest.raises(RealCompoError, match=rf"{trained.replace(' ', '-')} .*train_{trained} trains it"):
        load_pipeline(tmp_path, mode)
