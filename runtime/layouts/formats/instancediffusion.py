"""InstanceDiffusion's demos: a caption, the image's size, and instances with a box in pixels and a mask.

https://github.com/frank-xwang/InstanceDiffusion, `demos/` and `inference.py`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel

from runtime.errors import FieldError
from runtime.layouts.formats.coco import Runs
from runtime.layouts.formats.kind import Entry, Format, Scene, Thing
from runtime.layouts.formats.masks import decode_runs
from runtime.layouts.formats.parts import Four, Side, has, part
from runtime.layouts.formats.phrases import words_of
from runtime.layouts.formats.source import Source


class _Instance(BaseModel):
    caption: str
    category_name: str | None = None
    bbox: Four | None = None
    mask: Runs | list[Any] | None = None  # an empty list: none


class _Demo(BaseModel):
    caption: str
    width: Side
    height: Side
    annos: list[Any]


def _entries(source: Source) -> Sequence[Entry]:
    return [Entry((), lambda: _scene(part(_Demo, source.data, "")))]


def _scene(demo: _Demo) -> Scene:
    things = [_thing(one, f"annos.{i}", demo.caption) for i, one in enumerate(demo.annos)]
    return Scene(things, demo.caption, "xywh", (demo.width, demo.height), is_said=True)


def _thing(value: Any, where: str, prompt: str) -> Thing:
    instance = part(_Instance, value, where)
    mask = _mask(instance, f"{where}.mask")
    if instance.bbox is None and mask is None:
        raise FieldError(where, "it has a point or a scribble, and no box or mask, which a layout needs; add its bbox")
    phrase = words_of(prompt, instance.caption, instance.category_name)
    return Thing(where, phrase, instance.bbox, mask)


def _mask(instance: _Instance, where: str) -> np.ndarray | None:
    if not isinstance(instance.mask, Runs):
        if instance.mask:
            raise FieldError(where, "it is a list; give COCO's run lengths, or [] for none")
        return None
    mask = decode_runs(instance.mask.size, instance.mask.counts, where)
    return mask if mask.any() else None


INSTANCEDIFFUSION = Format("an InstanceDiffusion file", lambda source: has(source.data, "annos", "caption"), _entries)
