"""Random 3D scenes: what they ask of a picture, and scores of pictures that Tabletop's own renderer makes of it."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.drawing import Sampling
from benchmarks.scenes.measure import _row, measure
from benchmarks.scenes.tables import grids
from benchmarks.scenes.worlds import LEAST_SEEN, World, worlds
from benchmarks.tabletop.scenes import KINDS, render
from benchmarks.tabletop.scenes import Scene as Picture
from runtime import RealCompoError
from tests.runtime.bundles import make_parts, write_bundle


@pytest.fixture(scope="module")
def found() -> list[World]:
    return worlds(9)


def test_scenes_have_one_to_three_objects_of_different_kinds(found: list[World]) -> None:
    assert [len(world.asked.things) for world in found] == [1, 2, 3] * 3
    for world in found:
        kinds = [thing.kind for thing in world.asked.things]
        assert len(set(kinds)) == len(kinds) and all(kind in world.asked.caption for kind in kinds)


def test_objects_are_in_the_picture_and_seen(found: list[World]) -> None:
    """Counted in a picture of each alone."""
    for world in found:
        for i, thing in enumerate(world.asked.things):
            assert min(thing.box) > 0 and max(thing.box) < 1
            alone = (world.shot.drawn[i].nearness > 0).sum()
            assert (world.shot.shown == i).sum() >= LEAST_SEEN * alone > 0


def test_the_same_number_gives_the_same_scenes(found: list[World]) -> None:
    assert [world.asked for world in worlds(3)] == [world.asked for world in found[:3]]


def test_a_rendering_of_what_is_asked_scores_all(found: list[World]) -> None:
    """Of single objects, which hide nothing; a picture without any scores nothing."""
    single = [world for world in found if len(world.asked.things) == 1]
    rendered = [render(world.asked, "realistic", np.random.default_rng(0)) for world in single]
    empty = [render(Picture("", "scene", ()), "realistic", np.random.default_rng(0)) for _ in single]
    full, nothing = (_row("exact", "scene", single, images) for images in (rendered, empty))
    assert full.scores["in_box"].mean == full.scores["filled"].mean == full.scores["object_recall"].mean == 1
    assert nothing.scores["in_box"].mean == nothing.scores["filled"].mean == nothing.scores["object_recall"].mean == 0
    assert sum(full.in_box_of[kind].n for kind in KINDS) == len(single)
    scores, by_kind = grids([full, nothing], len(single))
    assert scores.rows[0][4].startswith("1.000") and len(by_kind.rows) == 2


def test_a_bundle_without_depth_is_refused(found: list[World], tmp_path: Path) -> None:
    write_bundle(tmp_path, make_parts())
    with pytest.raises(RealCompoError, match="is no pair of Tabletop's with depth; build tabletop-depth"):
        next(measure(tmp_path, found, ["spatial"], Sampling(2, "ddim", 1.0, 2)))
