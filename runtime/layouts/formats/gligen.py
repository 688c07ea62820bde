"""GLIGEN's demos, and diffusers' arguments: phrases and boxes in fractions, or people's 17 points.

https://github.com/gligen/GLIGEN, `gligen_inference.py`.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from pydantic import BaseModel

from runtime.errors import FieldError
from runtime.layouts.formats.kind import FRACTIONS, Entry, Format, Scene, Thing
from runtime.layouts.formats.parts import Four, each, is_list_of, part
from runtime.layouts.formats.source import Source
from runtime.layouts.geometry import Point

DIFFUSERS = {"gligen_phrases": "phrases", "gligen_boxes": "locations"}
PICTURES = ("images", "gligen_images", "input_image", "gligen_inpaint_image")


class _Boxes(BaseModel):
    prompt: str | None = None
    phrases: list[str]
    locations: list[Four]


class _People(BaseModel):
    prompt: str | None = None
    locations: list[list[Point]]


def _recognises(source: Source) -> bool:
    every = each(source.data)
    return (
        is_list_of(every, "locations", "prompt") or is_list_of(every, "locations", "phrases") or _is_diffusers(source)
    )


def _is_diffusers(source: Source) -> bool:
    return is_list_of(each(source.data), "gligen_boxes")


def _entries(source: Source) -> Sequence[Entry]:
    if not is_list_of(each(source.data), "gligen_boxes" if _is_diffusers(source) else "locations"):
        raise FieldError("", "it has no phrases and locations, as GLIGEN's demos have")
    return [Entry((), partial(_scene, one)) for one in each(source.data)]


def _scene(value: dict[str, Any]) -> Scene:
    found = {DIFFUSERS.get(key, key): one for key, one in value.items()}
    pictures = [key for key in PICTURES if found.get(key)]
    if pictures:
        raise FieldError(pictures[0], "a layout has no pictures to ground objects on or to paint in; take them out")
    return _people(found) if _has_people(found["locations"]) else _boxes(found)


def _has_people(locations: Any) -> bool:
    """Lists of points, rather than of numbers."""
    return isinstance(locations, list) and any(
        isinstance(one, list) and one and isinstance(one[0], list) for one in locations
    )


def _boxes(value: dict[str, Any]) -> Scene:
    found = part(_Boxes, value, "")
    if len(found.phrases) != len(found.locations):
        raise FieldError("phrases", f"{len(found.phrases)} for {len(found.locations)} locations; give one each")
    things = [
        Thing(f"locations.{i}", phrase, box)
        for i, (phrase, box) in enumerate(zip(found.phrases, found.locations, strict=True))
    ]
    return Scene(things, found.prompt, "xyxy", FRACTIONS)


def _people(value: dict[str, Any]) -> Scene:
    """GLIGEN names no people, and writes [0, 0] for a point that is not seen."""
    found = part(_People, value, "")
    for i, points in enumerate(found.locations):
        if len(points) != 17:
            raise FieldError(f"locations.{i}", f"it has {len(points)} points; GLIGEN's people have COCO's 17")
    things = [Thing(f"locations.{i}", keypoints=partial(list, points)) for i, points in enumerate(found.locations)]
    return Scene(things, found.prompt, None, FRACTIONS)


GLIGEN = Format("a GLIGEN file", _recognises, _entries)
