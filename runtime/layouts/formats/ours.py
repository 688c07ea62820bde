"""Our own layout.json with boxes that are not as ours: pixels, 0 to 1000, or a corner, width and height.

All that is not a box is kept as it is.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import AliasChoices, Field

from runtime.errors import FieldError
from runtime.layouts.files import beside
from runtime.layouts.formats.boxes import look_like_pixels
from runtime.layouts.formats.kind import FRACTIONS, Entry, Format, Scene, Size, Thing
from runtime.layouts.formats.parts import Four, has, part
from runtime.layouts.formats.source import Source
from runtime.layouts.geometry import Keypoint
from runtime.layouts.keypoints import in_pixels
from runtime.layouts.openpose import read_openpose
from runtime.layouts.schema import LayoutFile, RegionFile

BBOX = ("xywh", "xyxy", "yxyx", "cxcywh")  # what other tools mostly mean by that name first


class _Region(RegionFile):
    box: Four | None = Field(None, validation_alias=AliasChoices("box", "bbox"))


class _Layout(LayoutFile):
    regions: list[Any]


def _entries(source: Source) -> Sequence[Entry]:
    return [Entry((), lambda: _scene(part(_Layout, source.data, ""), source.path))]


def _scene(layout: _Layout, path: Path) -> Scene:
    things = [_thing(one, f"regions.{i}", path) for i, one in enumerate(layout.regions)]
    boxes = np.array([thing.box for thing in things if thing.box is not None])
    named_otherwise = any(has(one, "bbox") for one in layout.regions)
    form = None if named_otherwise or look_like_pixels(boxes) else "xyxy"
    forms = BBOX if named_otherwise else ()
    return Scene(things, layout.prompt, form, FRACTIONS, forms=forms, rest=_rest(layout, path))


def _rest(layout: _Layout, path: Path) -> dict[str, Any]:
    pictures = {name: getattr(layout, name) for name in ("segmentation", "depth")}
    return {
        **{name: beside(path, file, name) for name, file in pictures.items() if file is not None},
        "background": layout.background,
        "control": {kind: beside(path, file, f"control.{kind}") for kind, file in layout.control.items()},
    }


def _thing(value: Any, where: str, path: Path) -> Thing:
    region = part(_Region, value, where)
    pose = _pose(region, where, path)
    return Thing(
        where,
        region.phrase,
        region.box,
        partial(_mask, region, where, path),
        lambda: pose,
        _pose_size(pose),
        region.tokens,
        region.label,
        region.layer,
    )


def _mask(region: _Region, where: str, path: Path) -> Path | None:
    return None if region.mask is None else beside(path, region.mask, f"{where}.mask")


def _pose(region: _Region, where: str, path: Path) -> Sequence[Keypoint] | None:
    if region.openpose is None:
        return region.keypoints
    try:
        return read_openpose(beside(path, region.openpose, "openpose"), region.person, region.frame)
    except FieldError as error:
        raise FieldError(f"{where}.{error.field}", f"{error}") from error


def _pose_size(pose: Sequence[Keypoint] | None) -> Size | None:
    """Poses are fractions, whatever the boxes are, unless they are plainly pixels too."""
    seen = np.array([point for point in pose or () if point is not None], dtype=np.float64)
    return None if in_pixels(seen) else FRACTIONS


LAYOUT = Format("a layout of ours", lambda source: has(source.data, "regions"), _entries)
