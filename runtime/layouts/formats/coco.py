"""COCO's annotations: images, and their objects with a box, a segmentation or a pose in pixels.

https://cocodataset.org/#format-data
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from pydantic import BaseModel

from runtime.errors import FieldError
from runtime.layouts.formats.kind import Entry, Format, Scene, Thing
from runtime.layouts.formats.masks import decode_runs, draw_polygons
from runtime.layouts.formats.parts import Four, Side, has, part
from runtime.layouts.formats.source import Source
from runtime.layouts.geometry import Keypoint


class _Image(BaseModel):
    id: int | str
    width: Side
    height: Side
    file_name: str = ""


class _Category(BaseModel):
    id: int | str
    name: str


class _Tables(BaseModel):
    images: list[_Image]
    categories: list[_Category] = []


class Runs(BaseModel):
    """A mask as run lengths."""

    size: tuple[int, int]  # height and width
    counts: str | list[int]


class _Annotation(BaseModel):
    category_id: int | str
    bbox: Four | None = None
    segmentation: list[list[float]] | Runs | None = None
    keypoints: list[float] | None = None


def _entries(source: Source) -> Sequence[Entry]:
    if not has(source.data, "images", "annotations"):
        raise FieldError("", "it has no images and annotations, as COCO's files have")
    if not isinstance(source.data["annotations"], list):
        raise FieldError("annotations", "it is no list")
    tables = part(_Tables, {key: source.data.get(key, []) for key in ("images", "categories")}, "")
    annotations: dict[Any, list[tuple[int, Any]]] = {}
    for i, annotation in enumerate(source.data["annotations"]):
        if not has(annotation, "image_id") or not isinstance(annotation["image_id"], int | str):
            raise FieldError(f"annotations.{i}.image_id", "it is missing, or no id")
        annotations.setdefault(annotation["image_id"], []).append((i, annotation))
    names = {category.id: category.name for category in tables.categories}
    return [
        Entry((f"{image.id}", image.file_name), partial(_scene, image, annotations.get(image.id, []), names))
        for image in tables.images
    ]


def _scene(image: _Image, annotations: Sequence[tuple[int, Any]], names: dict[int | str, str]) -> Scene:
    captions = [one["caption"] for _, one in annotations if has(one, "caption") and "category_id" not in one]
    objects = [(i, one) for i, one in annotations if "caption" not in one or "category_id" in one]
    if not objects:
        what = "captions, and no objects" if captions else "no annotations"
        raise FieldError("annotations", f"image {image.id} has {what}; give a file of instances or keypoints")
    things = [_thing(image, one, f"annotations.{i}", names) for i, one in objects]
    return Scene(things, f"{captions[0]}" if captions else None, "xywh", (image.width, image.height), is_said=True)


def _thing(image: _Image, value: Any, where: str, names: dict[int | str, str]) -> Thing:
    annotation = part(_Annotation, value, where)
    if annotation.category_id not in names:
        raise FieldError(f"{where}.category_id", f"{annotation.category_id} is not among the file's categories")
    return Thing(
        where,
        names[annotation.category_id],
        annotation.bbox,
        _mask(image, annotation, f"{where}.segmentation"),
        _pose(annotation.keypoints, f"{where}.keypoints"),
    )


def _mask(image: _Image, annotation: _Annotation, where: str) -> np.ndarray | None:
    shape = annotation.segmentation
    if not shape:
        return None
    if isinstance(shape, Runs):
        mask = decode_runs(shape.size, shape.counts, where)
    else:
        mask = draw_polygons((round(image.height), round(image.width)), shape, where)
    return mask if mask.any() else None


def _pose(numbers: list[float] | None, where: str) -> list[Keypoint] | None:
    """COCO's 17 points of x, y and whether they are labelled."""
    if numbers is None:
        return None
    if len(numbers) != 51:
        raise FieldError(where, f"it has {len(numbers)} numbers; a person has x, y and visibility of 17 points")
    points = np.array(numbers).reshape(17, 3)
    if not points[:, 2].any():
        return None
    return [(x, y) if labelled else None for x, y, labelled in points.tolist()]


COCO = Format("a COCO file", lambda source: has(source.data, "images", "annotations"), _entries)
