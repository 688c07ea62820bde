"""Our own layout.json with boxes that are not as ours: pixels, 0 to 1000, or a corner, width and height."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from runtime.errors import FieldError
from runtime.layouts.formats.boxes import look_like_pixels
from runtime.layouts.formats.kind import FRACTIONS, Entry, Format, Scene, Thing
from runtime.layouts.formats.parts import Four, has, part
from runtime.layouts.formats.source import Source

OTHER_PLACES = ("mask", "keypoints", "openpose")


class _Region(BaseModel):
    model_config = ConfigDict(extra="forbid")

    phrase: str
    box: Four = Field(validation_alias=AliasChoices("box", "bbox"))
    tokens: list[int] | None = None
    label: int | str | None = None


class _Layout(BaseModel):
    model_config = ConfigDict(extra="forbid")

    schema_: str | None = Field(None, alias="$schema")
    prompt: str | None = None
    regions: list[Any]


def _entries(source: Source) -> Sequence[Entry]:
    return [Entry((), lambda: _scene(part(_Layout, source.data, "")))]


def _scene(layout: _Layout) -> Scene:
    things = [_thing(one, f"regions.{i}") for i, one in enumerate(layout.regions)]
    is_ours = not things or not look_like_pixels(np.array([thing.box for thing in things]))
    return Scene(things, layout.prompt, "xyxy" if is_ours else None, FRACTIONS)


def _thing(value: Any, where: str) -> Thing:
    for place in OTHER_PLACES:
        if has(value, place):
            raise FieldError(f"{where}.{place}", "boxes alone are converted; mend this layout by hand")
    region = part(_Region, value, where)
    return Thing(where, region.phrase, region.box, tokens=region.tokens, label=region.label)


LAYOUT = Format("a layout of ours", lambda source: has(source.data, "regions"), _entries)
