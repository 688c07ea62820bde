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
from runtime.layouts.formats.masks import Runs, draw_polygons, mask_of_runs
from runtime.layouts.formats.parts import FourOrNone, Side, has, part
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


class _Annotation(BaseModel):
    category_id: int | str
    bbox: FourOrNone = None
    segmentation: Any = None
    keypoints: Any = None


class _Shape(BaseModel):
    segmentation: list[list[float]] | Runs | None


class _Pose(BaseModel):
    keypoints: list[float] | None


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
    single = [(i, one) for i, one in objects if not is_crowd(one)]
    if not single:
        raise FieldError("annotations", f"image {image.id} has crowds, and no objects; give another")
    things = [_thing(image, one, f"annotations.{i}", names) for i, one in single]
    notes = crowd_notes(len(objects), len(single))
    prompt = f"{captions[0]}" if captions else None
    return Scene(things, prompt, "xywh", (image.width, image.height), is_said=True, notes=notes)


def is_crowd(annotation: Any) -> bool:
    """Whether an annotation is of a group that nobody told apart: its box and mask are those of no object."""
    return has(annotation, "iscrowd") and annotation["iscrowd"] == 1


def crowd_notes(given: int, single: int) -> list[str]:
    """What to say of crowds that are left out."""
    return [f"{given - single} of {given} objects are crowds, and no single object; they are left out"] * (
        given > single
    )


def _thing(image: _Image, value: Any, where: str, names: dict[int | str, str]) -> Thing:
    annotation = part(_Annotation, value, where)
    if annotation.category_id not in names:
        raise FieldError(f"{where}.category_id", f"{annotation.category_id} is not among the file's categories")
    return Thing(
        where,
        names[annotation.category_id],
        annotation.bbox,
        partial(_mask, image, annotation.segmentation, where),
        partial(_pose, annotation.keypoints, where),
    )


def _mask(image: _Image, segmentation: Any, where: str) -> np.ndarray | None:
    shape = part(_Shape, {"segmentation": segmentation}, where).segmentation
    size = round(image.height), round(image.width)
    if isinstance(shape, Runs):
        return mask_of_runs(shape, size, f"{where}.segmentation")
    polygons = [polygon for polygon in shape or () if polygon]
    mask = draw_polygons(size, polygons, f"{where}.segmentation") if polygons else None
    return mask if mask is not None and mask.any() else None


def _pose(keypoints: Any, where: str) -> list[Keypoint] | None:
    """COCO's 17 points of x, y and whether they are labelled."""
    numbers = part(_Pose, {"keypoints": keypoints}, where).keypoints
    if not numbers:
        return None
    if len(numbers) != 51:
        raise FieldError(
            f"{where}.keypoints", f"it has {len(numbers)} numbers; a person has x, y and visibility of 17 points"
        )
    points = np.array(numbers).reshape(17, 3)
    if not points[:, 2].any():
        return None
    return [(x, y) if labelled else None for x, y, labelled in points.tolist()]


COCO = Format("a COCO file", lambda source: has(source.data, "images", "annotations"), _entries)
