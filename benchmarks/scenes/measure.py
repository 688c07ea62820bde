"""Draw random 3D scenes from their depth, in each way of combining the models, and score the pictures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.drawing import Sampling
from benchmarks.scenes.worlds import World
from benchmarks.study.statistics import Estimate, estimate
from benchmarks.tabletop.scenes import KINDS, Array, depth_map
from benchmarks.tabletop.score import IN_BOX_IOU, find_things, iou, score_image
from runtime import Layout, RealCompo, RealCompoError

SCORES = ("object_recall", "attribute_binding", "in_box", "realism")
SOURCES = ("scene", "tabletop")  # of depth: the scene's own, or what Tabletop has of the same boxes
NO_DEPTH = "none"
MODES = ("text_to_image", "spatial", "surrogate")


@dataclass(frozen=True, eq=False)
class Row:
    """One way of drawing: its scores over the scenes, and its share of objects in their box by kind."""

    mode: str
    depth: str
    scores: dict[str, Estimate]  # Tabletop's, and `filled`: boxes that any object is in, whatever it is
    in_box_of: dict[str, Estimate]
    images: Sequence[Array]  # (128,128,3) in 0..1


def measure(bundle: Path, found: Sequence[World], modes: Sequence[str], sampling: Sampling) -> Iterator[Row]:
    """Each row as soon as it is known: every mode with the scenes' depth and with Tabletop's.

    Raises:
        RealCompoError: the bundle has no depth ControlNet, or does not draw pictures of Tabletop's size.
    """
    pipe = RealCompo.load(bundle)
    if "depth" not in pipe.manifest.spatial.controls or pipe.manifest.image_size != found[0].shot.size:
        raise RealCompoError(f"{bundle} is no pair of Tabletop's with depth; build tabletop-depth")
    for mode, source in product(modes, SOURCES):
        if mode != "text_to_image":
            yield _row(mode, source, found, _draw(pipe, found, mode, source, sampling))
        elif source == SOURCES[0]:  # it looks at neither
            yield _row(mode, NO_DEPTH, found, _draw(pipe, found, mode, source, sampling))


def _draw(pipe: RealCompo, found: Sequence[World], mode: str, source: str, sampling: Sampling) -> list[Array]:
    """From the same latents whatever the mode and the depth."""
    images: list[Array] = []
    for start in range(0, len(found), sampling.batch):
        chunk = found[start : start + sampling.batch]
        layouts = [_layout(world, source) for world in chunk]
        drawn = pipe(
            [one.asked.caption for one in chunk], layout=layouts, seed=start, gradient=mode, **sampling.knobs()
        )
        images += [np.asarray(image) / 255 for image in drawn.images]
    return images


def _layout(world: World, source: str) -> Layout:
    return world.layout if source == "scene" else replace(world.layout, depth=depth_map(world.asked))


def _row(mode: str, source: str, found: Sequence[World], images: Sequence[Array]) -> Row:
    scored = [score_image(image, world.asked) for image, world in zip(images, found, strict=True)]
    overall = {name: estimate([getattr(one, name) for one in scored]) for name in SCORES}
    overall["filled"] = estimate([_filled(image, world) for image, world in zip(images, found, strict=True)])
    return Row(mode, source, overall, {kind: estimate(_of_kind(kind, found, images)) for kind in KINDS}, images)


def _filled(image: Array, world: World) -> float:
    seen, asked = find_things(image), world.asked.things
    return sum(any(iou(one.box, thing.box) >= IN_BOX_IOU for one in seen) for thing in asked) / len(asked)


def _of_kind(kind: str, found: Sequence[World], images: Sequence[Array]) -> list[float]:
    """Whether the scene's object of a kind is in its box; NaN where it has none."""
    return [_in_box(kind, world, image) for world, image in zip(found, images, strict=True)]


def _in_box(kind: str, world: World, image: Array) -> float:
    things = tuple(thing for thing in world.asked.things if thing.kind == kind)
    return score_image(image, replace(world.asked, things=things)).in_box if things else np.nan
