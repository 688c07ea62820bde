"""From a tool's objects to a layout: units, places, phrases, and a warning of what is lost."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from runtime.errors import FieldError
from runtime.layouts.formats.boxes import place_boxes, size_of
from runtime.layouts.formats.kind import ANY_PHRASE, Request, Scene, Thing
from runtime.layouts.formats.mending import Unsaid
from runtime.layouts.geometry import Keypoint
from runtime.layouts.layout import PLACES, Layout, Region

MOST_PHRASES = 4  # that a command asks for


def lay_out(scene: Scene, request: Request) -> Layout:
    """The layout that a scene's objects make.

    Raises:
        FieldError: an object has no phrase or no place, or numbers that mean nothing certain.
    """
    scene = _without_blanks(scene, request)
    things = _named(scene.things, request)
    places = [_place(thing, scene, request) for thing in things]
    boxed = [replace(thing, box=place.get("box")) for thing, place in zip(things, places, strict=True)]
    boxes, cut = place_boxes(replace(scene, things=boxed), request)
    regions = [
        _region(thing, place if box is None else {"box": box})
        for thing, place, box in zip(things, places, boxes, strict=True)
    ]
    _warn(scene, request, regions, cut)
    return Layout(regions, request.choices.prompt or scene.prompt, **scene.rest)


def _without_blanks(scene: Scene, request: Request) -> Scene:
    """Without boxes of no width and no height, which tools write for none, and objects that have no other place."""
    form = request.choices.boxes or scene.form
    things = [replace(thing, box=None) if _is_blank(thing, form) else thing for thing in scene.things]
    kept = [
        thing
        for thing, given in zip(things, scene.things, strict=True)
        if thing.box is given.box or thing.mask() is not None or thing.keypoints() is not None
    ]
    count = len(scene.things) - len(kept)
    notes = [f"{count} of {len(scene.things)} objects have no width and no height; they are left out"] if count else []
    return replace(scene, things=kept, notes=[*scene.notes, *notes])


def _is_blank(thing: Thing, form: str | None) -> bool:
    if thing.box is None:
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
            raise _nameless(thing, len(things))
        named.append(replace(thing, phrase=phrase.strip()))
    return named


def _nameless(thing: Thing, count: int) -> FieldError:
    """Of a few objects the command has room for their phrases."""
    problem = f"it has no name; give --phrase once for each of the {count} objects"
    if count > MOST_PHRASES:
        return FieldError(thing.where, problem)
    return Unsaid(thing.where, f"{problem}, as in:", [{"phrases": (ANY_PHRASE,) * count}])


def _place(thing: Thing, scene: Scene, request: Request) -> dict[str, Any]:
    """The first of an object's places, or the one that is wanted where it has that; nothing of one with but a label.

    The others are not looked at. A box is still in the file's numbers.
    """
    found: dict[str, Callable[[], Any]] = {
        "box": lambda: thing.box,
        "mask": thing.mask,
        "keypoints": lambda: _fractions(thing, scene, request),
    }
    for name in sorted(PLACES, key=lambda name: name != request.choices.place):
        if (place := found[name]()) is not None:
            return {name: place}
    if thing.label is None:
        raise FieldError(thing.where, "it has no box, mask or pose, and an object needs a place; leave it out")
    return {}


def _region(thing: Thing, place: Mapping[str, Any]) -> Region:
    try:
        return Region(thing.phrase or "", tokens=thing.tokens, label=thing.label, layer=thing.layer, **place)
    except FieldError as error:
        raise FieldError(thing.where, f"{error}") from error


def _fractions(thing: Thing, scene: Scene, request: Request) -> list[Keypoint] | None:
    keypoints = thing.keypoints()
    if keypoints is None:
        return None
    seen = np.array([point for point in keypoints if point is not None], dtype=np.float64)
    width, height = thing.pose_size or size_of(scene, request, seen)
    return [None if point is None else (point[0] / width, point[1] / height) for point in keypoints]


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
