"""Scenes as layouts."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from benchmarks.tabletop.scenes import Scene, Thing, coverage, depth_map, edge_map, label_map, landmarks
from runtime import Layout, Region

RegionKind = Literal["box", "mask", "keypoints"]
PLACES: dict[RegionKind, Callable[[Thing], Any]] = {
    "box": lambda thing: thing.box,
    "mask": coverage,
    "keypoints": landmarks,
}


def layout_of(scene: Scene, regions: RegionKind = "box") -> Layout:
    """The objects' places, and what ControlNets and T2I-Adapters see."""
    placed = [Region(thing.phrase, **{regions: PLACES[regions](thing)}) for thing in scene.things]
    edges = np.repeat(255 * edge_map(scene)[:, :, None].astype(np.uint8), 3, axis=2)
    return Layout(placed, segmentation=label_map(scene), depth=depth_map(scene), control={"canny": edges})
