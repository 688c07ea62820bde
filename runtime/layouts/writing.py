"""Layouts to files: layout.json as `Layout.from_file` reads it, and the pictures that it names beside it."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from runtime.errors import RealCompoError
from runtime.layouts.layout import Layout, Region

DIGITS = 6  # of coordinates: a thousandth of a pixel


def layout_json(layout: Layout) -> str:
    """A layout without pictures as `Layout.from_file` reads it, one region a line, in ASCII.

    Raises:
        RealCompoError: it has masks, a label map, depth or control pictures, which take files of their own.
    """
    files = layout_files(layout, Path("layout.json"))
    if len(files) > 1:
        raise RealCompoError("the layout has pictures, which stand in files of their own; write it to a file")
    return files[Path("layout.json")].decode().rstrip("\n")


def layout_files(layout: Layout, out: Path) -> dict[Path, bytes]:
    """The files to write: pictures, whose names start with that of `out`, and the layout itself, last."""
    files: dict[Path, bytes] = {}

    def named(picture: np.ndarray, what: str) -> str:
        path = out.with_name(f"{out.stem}-{what}.png")
        files[path] = _png(picture)
        return path.name

    regions = []
    for i, region in enumerate(layout.regions):
        place = {"mask": named(_grey(region.mask, 255), f"{i}")} if isinstance(region.mask, np.ndarray) else {}
        regions.append({"phrase": region.phrase, **place, **_numbers(region)})
    of_picture: dict[str, Any] = {"prompt": layout.prompt, "regions": regions}
    if isinstance(layout.segmentation, np.ndarray):
        of_picture["segmentation"] = named(layout.segmentation, "segmentation")
    if isinstance(layout.depth, np.ndarray):
        of_picture["depth"] = named(_depth(layout.depth), "depth")
    if layout.control:
        of_picture["control"] = {
            kind: named(np.asarray(picture), f"control-{kind}") for kind, picture in layout.control.items()
        }
    if layout.background is not None:
        of_picture["background"] = layout.background
    return {**files, out: f"{_lines(of_picture)}\n".encode()}


def _numbers(region: Region) -> dict[str, Any]:
    """A region's fields that are no pictures."""
    found = {
        "box": None if region.box is None else _rounded(region.box),
        "keypoints": None if region.keypoints is None else [point and _rounded(point) for point in region.keypoints],
        "tokens": None if region.tokens is None else list(region.tokens),
        "label": region.label,
        "layer": region.layer or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _rounded(numbers: tuple[float, ...]) -> list[float]:
    return [round(number, DIGITS) for number in numbers]


def _lines(of_picture: dict[str, Any]) -> str:
    """JSON with a region a line."""
    regions = ",\n".join(f"    {json.dumps(region)}" for region in of_picture["regions"])
    fields = {name: json.dumps(value) for name, value in of_picture.items()} | {"regions": f"[\n{regions}\n  ]"}
    return "{\n" + ",\n".join(f"  {json.dumps(name)}: {value}" for name, value in fields.items()) + "\n}"


def _grey(values: np.ndarray, top: int) -> np.ndarray:
    """Values in 0..1 as grey of 8 or 16 bits."""
    return np.round(np.asarray(values, dtype=np.float64) * top).astype(np.uint8 if top == 255 else np.uint16)


def _depth(values: np.ndarray) -> np.ndarray:
    """As grey of 8 bits where it came from that, for 16 bits that end low are taken for distances; or else of 16."""
    narrow = _grey(values, 255)
    return narrow if (narrow.astype(np.float32) / 255 == values).all() else _grey(values, 65535)


def _png(values: np.ndarray) -> bytes:
    buffer = BytesIO()
    Image.fromarray(values).save(buffer, format="PNG")
    return buffer.getvalue()
