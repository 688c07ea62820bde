"""Tabletop's held-out scenes and its scorer, as a study takes them."""

from collections.abc import Mapping
from dataclasses import asdict, replace

import numpy as np
from PIL import Image

from benchmarks.study.cases import Case
from benchmarks.tabletop.layouts import layout_of
from benchmarks.tabletop.scenes import HELD_OUT_SEED, PAIR_STYLES, Scene, Style, Thing, held_out_scenes, render
from benchmarks.tabletop.score import find_things, iou, score_image
from runtime import Layout
from runtime.bundle.manifest import Manifest
from runtime.layouts.geometry import Box
from runtime.words import MODELS


def is_tabletop(manifest: Manifest) -> bool:
    return manifest.pair.name.partition("-")[0] == "tabletop"


def held_out_cases(count: int) -> list[Case]:
    """The first held-out scenes, rendered in the styles that the models were trained on."""
    return [_case(i, scene) for i, scene in enumerate(held_out_scenes(count))]


class TabletopScorer:
    """The scorer of `benchmarks.tabletop.score`."""

    def __call__(self, image: Image.Image, layout: Layout) -> Mapping[str, float]:
        return asdict(score_image(_pixels(image), _scene(layout)))

    def find(self, image: Image.Image, layout: Layout) -> list[Box | None]:
        """Of several objects that look alike, the one that overlaps the region most."""
        found = find_things(_pixels(image))
        return [_best(thing, [f for f in found if _look(f) == _look(thing)]) for thing in _scene(layout).things]


score = TabletopScorer()


def _case(i: int, scene: Scene) -> Case:
    pictures = {model: _rendering(i, scene, style) for model, style in zip(MODELS, PAIR_STYLES, strict=True)}
    return Case(replace(layout_of(scene), prompt=scene.caption), scene.category, pictures)


def _rendering(i: int, scene: Scene, style: Style) -> Image.Image:
    pixels = render(scene, style, np.random.default_rng((HELD_OUT_SEED, i, 1)))
    return Image.fromarray((255 * pixels).round().astype(np.uint8))


def _scene(layout: Layout) -> Scene:
    """A region's phrase is `a COLOUR KIND`."""
    looks = [region.phrase.split()[-2:] for region in layout.regions]
    boxes = [region.bounding_box() for region in layout.regions]
    return Scene("", "", tuple(Thing(kind, color, box) for (color, kind), box in zip(looks, boxes, strict=True)))


def _pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image) / 255


def _look(thing: Thing) -> tuple[str, str]:
    return thing.kind, thing.color


def _best(thing: Thing, alike: list[Thing]) -> Box | None:
    return max((other.box for other in alike), key=lambda box: iou(box, thing.box), default=None)
