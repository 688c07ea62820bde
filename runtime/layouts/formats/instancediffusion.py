"""InstanceDiffusion's demos: a caption, the image's size, and instances with a box in pixels and a mask.

https://github.com/frank-xwang/InstanceDiffusion, `demos/` and `inference.py`.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from pydantic import BaseModel

from runtime.errors import FieldError
from runtime.layouts.formats.coco import crowd_notes, is_crowd
from runtime.layouts.formats.kind import Entry, Format, Scene, Thing
from runtime.layouts.formats.masks import Runs, mask_of_runs
from runtime.layouts.formats.parts import FourOrNone, Side, has, part
from runtime.layouts.formats.phrases import words_of
from runtime.layouts.formats.source import Source


class _Instance(BaseModel):
    caption: str
    category_name: str | None = None
    bbox: FourOrNone = None
    mask: Any = None  # an empty list: none


class _Mask(BaseModel):
    mask: Runs | None


class _Demo(BaseModel):
    caption: str
    width: Side
    height: Side
    annos: list[Any]


def _entries(source: Source) -> Sequence[Entry]:
    return [Entry((), lambda: _scene(part(_Demo, source.data, "")))]


def _scene(demo: _Demo) -> Scene:
    single = [(i, one) for i, one in enumerate(demo.annos) if not is_crowd(one)]
    things = [_thing(one, f"annos.{i}", demo) for i, one in single]
    notes = crowd_notes(len(demo.annos), len(single))
    return Scene(things, demo.caption, "xywh", (demo.width, demo.height), is_said=True, notes=notes)


def _thing(value: Any, where: str, demo: _Demo) -> Thing:
    instance = part(_Instance, value, where)
    if instance.bbox is None and not instance.mask:
        raise FieldError(where, "it has a point or a scribble, and no box or mask, which a layout needs; add its bbox")
    phrase = words_of(demo.caption, instance.caption, instance.category_name)
    return Thing(where, phrase, instance.bbox, partial(_mask, demo, instance.mask, where))


def _mask(demo: _Demo, value: Any, where: str) -> np.ndarray | None:
    if isinstance(value, list) and value:
        raise FieldError(f"{where}.mask", "it is a list; give COCO's run lengths, or [] for none")
    mask = part(_Mask, {"mask": value or None}, where).mask
    return mask_of_runs(mask, (round(demo.height), round(demo.width)), f"{where}.mask") if mask else None


INSTANCEDIFFUSION = Format("an InstanceDiffusion file", lambda source: has(source.data, "annos", "caption"), _entries)
