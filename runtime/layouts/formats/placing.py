"""From a tool's objects to a layout: units, places, phrases, and a warning of what is lost."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from runtime.errors import FieldError
from runtime.layouts.formats.boxes import place_boxes, size_of
from runtime.layouts.formats.kind import Request, Scene, Thing
from runtime.layouts.geometry import Box, Keypoint
from runtime.layouts.layout import PLACES, Layout, Region


def lay_out(scene: Scene, request: Request) -> Layout:
    """The layout that a scene's objects make.

    Raises:
        FieldError: an object has no phrase or no place, or numbers that mean nothing certain.
    """
    scene = _without_blanks(scene)
    scene = replace(scene, things=_named(scene.things, request))
    boxes, cut = place_boxes(scene, request)
    regions = [_region(thing, box, scene, request) for thing, box in zip(scene.things, boxes, strict=True)]
    _warn(scene, request, regions, cut)
    prompt = request.choices.prompt or scene.prompt
    return Layout(regions, prompt)


def _without_blanks(scene: Scene) -> Scene:
    """Without objects of no width and no height, which tools write for none."""
    kept = [thing for thing in scene.things if not _is_blank(thing, scene.form)]
    count = len(scene.things) - len(kept)
    notes = [f"{count} of {len(scene.things)} objects have no width and no height; they are left out"] if count else []
    return replace(scene, things=kept, notes=[*scene.notes, *notes])


def _is_blank(thing: Thing, form: str | None) -> bool:
    if thing.box is None or thing.mask is not None or thing.keypoints is not None:
        return False
    return not any(thing.box) or (form == "xywh" and not any(thing.box[2:]))


def _named(things: Sequence[Thing], request: Request) -> list[Thing]:
    """With the phrases that were given, or else the file's."""
    phrases: list[str | None] = [*request.choices.phrases] or [thing.phrase for thing in things]
    if len(phrases) != len(things):
        raise FieldError("", f"it has {len(things)} objects for {len(phrases)} phrases; give --phrase once an object")
    named = []
    for thing, phrase in zip(things, phrases, strict=True):
        if not phrase or not phrase.strip():
            raise FieldError(thing.where, f"it has no name; give --phrase once for each of the {len(things)} objects")
        named.append(replace(thing, phrase=phrase.strip()))
    return named


def _region(thing: Thing, box: Box | None, scene: Scene, request: Request) -> Region:
    found: dict[str, Any] = {"box": box, "mask": thing.mask, "keypoints": _fractions(thing, scene, request)}
    has = [name for name in PLACES if found[name] is not None]
    if not has:
        raise FieldError(thing.where, "it has no box, mask or pose, and an object needs a place; leave it out")
    place = request.choices.place if request.choices.place in has else has[0]
    try:
        return Region(thing.phrase or "", tokens=thing.tokens, label=thing.label, **{place: found[place]})
    except FieldError as error:
        raise FieldError(thing.where, f"{error}") from error


def _fractions(thing: Thing, scene: Scene, request: Request) -> list[Keypoint] | None:
    if thing.keypoints is None:
        return None
    seen = np.array([point for point in thing.keypoints if point is not None], dtype=np.float64)
    width, height = size_of(scene, request, seen)
    return [None if point is None else (point[0] / width, point[1] / height) for point in thing.keypoints]


def _warn(scene: Scene, request: Request, regions: Sequence[Region], cut: int) -> None:
    wanted = request.choices.place
    without = sum(getattr(region, wanted) is None for region in regions) if wanted else 0
    notes = [
        *scene.notes,
        *([f"{cut} of {len(regions)} boxes leave the image; they are cut at its edge"] if cut else []),
        *([f"{without} of {len(regions)} objects have no {wanted}; they keep what they have"] if without else []),
    ]
    for note in notes:
        warnings.warn(f"{request.path}: {note}", stacklevel=4)
