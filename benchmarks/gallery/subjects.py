"""What a gallery draws: held-out scenes, with their objects' places in one way or another, and 3D scenes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from benchmarks.scenes.worlds import worlds
from benchmarks.tabletop.layouts import RegionKind, layout_of
from benchmarks.tabletop.scenes import held_out_scenes
from runtime import Layout


@dataclass(frozen=True)
class Subject:
    """Words, and where things are."""

    caption: str
    layout: Layout
    places: str  # what regions are, for people
    kind: str | None = None  # of scene, for people, where it is no held-out one


def _held_out(regions: RegionKind, places: str, number: int) -> Subject:
    scene = held_out_scenes(number + 1)[number]
    return Subject(scene.caption, layout_of(scene, regions), places)


def _world(number: int) -> Subject:
    world = worlds(number + 1)[number]
    return Subject(world.asked.caption, world.layout, "layout", "3D scene")


SUBJECTS: dict[str, Callable[[int], Subject]] = {  # each has as many as one asks for, from 0
    "box": partial(_held_out, "box", "layout"),
    "mask": partial(_held_out, "mask", "mask"),
    "keypoints": partial(_held_out, "keypoints", "keypoints"),
    "scene": _world,
}
DEFAULT = "box"
