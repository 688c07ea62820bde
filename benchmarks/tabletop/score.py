"""Score images of Tabletop scenes: find objects by hue and silhouette, with nothing learned, and compare them.

An object is a connected patch of one of the eight hues whose silhouette matches one of the four kinds. `realism`
measures shading and texture. tests/benchmarks/test_score.py validates both on held-out renderings.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from benchmarks.tabletop.scenes import (
    COLORS,
    KINDS,
    SIDE,
    STYLES,
    Array,
    Box,
    Scene,
    Style,
    Thing,
    render,
    sample_scene,
)
from benchmarks.tabletop.scenes import coverage as silhouette

MIN_CHROMA = 0.22  # max - min of RGB; the realistic ground stays below 0.1
MIN_AREA = 180  # pixels; the smallest rendered object has about 400
MIN_SILHOUETTE_IOU = 0.62
IN_BOX_IOU = 0.5
IN_REGION_IOU = 0.5
REFERENCES = 200  # renderings a style that define realism

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Scores:
    """Each in 0..1, higher is better.

    object_recall: asked objects of which one of that kind is there, whatever its colour.
    attribute_binding: asked objects of which one of that kind in that colour is there.
    count_accuracy: images with exactly the asked number of each look (kind and colour) and nothing else.
    in_box: asked objects of which one of that look overlaps its box with an IoU of at least 0.5.
    in_region: asked objects of which one of that kind, whatever its colour, covers its silhouette with an IoU of at
        least 0.5; what a segmentation or depth map asks for, as they tell kinds and no colours.
    realism: shading and texture like the realistic renderings (1) or like the flat ones (0).
    papercut: shading and texture like the renderings of cut paper; 0 is the style farthest from them.
    """

    object_recall: float
    attribute_binding: float
    count_accuracy: float
    in_box: float
    in_region: float
    realism: float
    papercut: float


def score_image(image: Array, scene: Scene) -> Scores:
    """Scores of one (128, 128, 3) RGB image in 0..1 that was asked to show `scene`."""
    patches, asked = _find_patches(image), scene.things
    found = [thing for thing, _ in patches]
    looks = sorted((t.kind, t.color) for t in asked) == sorted((t.kind, t.color) for t in found)
    return Scores(
        object_recall=_matched([t.kind for t in asked], [t.kind for t in found]),
        attribute_binding=_matched([(t.kind, t.color) for t in asked], [(t.kind, t.color) for t in found]),
        count_accuracy=float(looks),
        in_box=_in_box(asked, found),
        in_region=_in_region(asked, patches),
        realism=resemblance(image, "realistic"),
        papercut=resemblance(image, "papercut"),
    )


def mean_scores(scores: Iterable[Scores]) -> Scores:
    rows = list(scores)
    return Scores(*(float(np.mean([getattr(row, f.name) for row in rows])) for f in fields(Scores)))


def find_things(image: Array) -> list[Thing]:
    """The objects in a (128, 128, 3) RGB image in 0..1, with the boxes around their pixels."""
    return [thing for thing, _ in _find_patches(image)]


def _find_patches(image: Array) -> list[tuple[Thing, Mask]]:
    """Each object and its pixels (128, 128)."""
    hues = _hue_labels(image)
    found = []
    for index, color in enumerate(COLORS):
        patches, _ = ndimage.label(hues == index)
        for number, where in enumerate(ndimage.find_objects(patches), start=1):
            mask = patches[where] == number
            if mask.sum() >= MIN_AREA and (kind := _kind(mask)):
                found.append((Thing(kind, color, _box(where)), patches == number))
    return found


def resemblance(image: Array, style: Style) -> float:
    """How near each shading and texture statistic is to that of a style's renderings.

    A statistic counts 1 within one standard deviation of the style's mean, 0 at the mean of the style that is farthest
    from it there, or as far beyond.
    """
    mean, deviation, farthest = _reference(style)
    miss = np.maximum(np.abs(_statistics(image) - mean) - deviation, 0) / (np.abs(farthest - mean) - deviation)
    return float(np.clip(1 - miss, 0, 1).mean())


def _matched(asked: Sequence[object], found: Sequence[object]) -> float:
    left = list(found)
    hits = 0
    for item in asked:
        if item in left:
            left.remove(item)
            hits += 1
    return hits / len(asked)


def _in_box(asked: Sequence[Thing], found: Sequence[Thing]) -> float:
    hits = [
        any((f.kind, f.color) == (a.kind, a.color) and iou(f.box, a.box) >= IN_BOX_IOU for f in found) for a in asked
    ]
    return sum(hits) / len(asked)  # asked boxes do not overlap, so no object can serve two of them


def _in_region(asked: Sequence[Thing], patches: Sequence[tuple[Thing, Mask]]) -> float:
    hits = [
        any(f.kind == a.kind and _mask_iou(mask, silhouette(a) > 0.5) >= IN_REGION_IOU for f, mask in patches)
        for a in asked
    ]
    return sum(hits) / len(asked)


def _mask_iou(a: Mask, b: Mask) -> float:
    return float((a & b).sum() / (a | b).sum())


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    overlap = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return overlap / (area - overlap)


def _hue_labels(image: Array) -> NDArray[np.int64]:
    """(128, 128) index of the nearest colour's hue, -1 where there is none."""
    low, high = image.min(-1, keepdims=True), image.max(-1, keepdims=True)
    hue = (image - low) / np.maximum(high - low, 1e-6)
    palette = np.asarray(list(COLORS.values()), np.float32)
    palette = (palette - palette.min(-1, keepdims=True)) / np.ptp(palette, axis=-1, keepdims=True)
    nearest = np.abs(hue[:, :, None] - palette).sum(-1).argmin(-1)
    colored = (high - low)[..., 0] > MIN_CHROMA
    return np.where(colored | _highlights(image, colored), nearest, -1)


def _highlights(image: Array, colored: Mask) -> Mask:
    """Bright pixels enclosed by an object: glossy spots, which have little colour of their own, but no ring's hole."""
    return (image.min(-1) > 0.55) & ndimage.binary_closing(colored) & ~colored


def _kind(mask: Mask) -> str | None:
    """The kind whose silhouette overlaps the patch best, None when none does well."""
    patch = np.asarray(Image.fromarray(mask).convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)) > 127
    overlaps = {kind: _mask_iou(patch, shape) for kind, shape in _silhouettes().items()}
    best = max(overlaps, key=lambda kind: overlaps[kind])
    return best if overlaps[best] >= MIN_SILHOUETTE_IOU else None


@cache
def _silhouettes() -> dict[str, Mask]:
    return {kind: silhouette(Thing(kind, "red", (0, 0, 1, 1))) > 0.5 for kind in KINDS}


def _box(where: tuple[slice, ...]) -> Box:
    rows, columns = where
    return (columns.start / SIDE, rows.start / SIDE, columns.stop / SIDE, rows.stop / SIDE)


def _statistics(image: Array) -> NDArray[np.float64]:
    """(5,): shading and gloss inside objects, gradient, grain and shadow of the ground."""
    gray = image.mean(-1)
    things = _hue_labels(image) >= 0
    inside = ndimage.binary_erosion(things, iterations=2)
    ground = ~ndimage.binary_dilation(things, iterations=2)
    if inside.sum() < MIN_AREA or ground.sum() < MIN_AREA:
        return _rendered_statistics("flat").mean(0)  # nothing to judge: as flat as can be
    rows = np.arange(SIDE)[:, None].repeat(SIDE, 1)[ground]
    slope, level = np.polyfit(rows / SIDE, gray[ground], 1)
    grain = (gray - ndimage.uniform_filter(gray, 3))[ndimage.binary_erosion(ground)].std()
    shadow = np.percentile(level + slope * rows / SIDE - gray[ground], 97)
    brightest = image.max(-1)[inside]
    gloss = np.percentile(image.min(-1)[inside], 98)
    return np.asarray([brightest.std(), gloss, slope, np.log(grain + 1e-3), shadow])


@cache
def _reference(style: Style) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation of a style's statistics, and for each the mean of another style that is farthest from it."""
    own = _rendered_statistics(style)
    others = np.stack([_rendered_statistics(other).mean(0) for other in STYLES if other != style])
    farthest = np.abs(others - own.mean(0)).argmax(0)
    return own.mean(0), own.std(0), others[farthest, np.arange(len(farthest))]


@cache
def _rendered_statistics(style: Style) -> NDArray[np.float64]:
    seeds = ((7, index) for index in range(REFERENCES))
    renderings = (render(sample_scene(rng), style, rng) for rng in map(np.random.default_rng, seeds))
    return np.stack([_statistics(image) for image in renderings])
