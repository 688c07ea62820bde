"""ComfyUI: workflows with GLIGEN's text boxes, and the box lists that its nodes hand on.

Nodes: GLIGENTextBoxApply; KJNodes' points editor and Ideogram's prompt builder; Florence2's and other detectors' lists.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from pydantic import BaseModel

from runtime.errors import FieldError
from runtime.layouts.formats.comfyui_workflows import is_workflow, read_workflow
from runtime.layouts.formats.kind import FRACTIONS, Entry, Format, Scene, Thing
from runtime.layouts.formats.parts import Four, each, has, is_list_of, part
from runtime.layouts.formats.source import Source

NAMES = ("label", "class", "class_name", "name", "text", "desc", "prompt")  # what nodes call an object's name
BOXES = ("box", "bbox", "bounding_box", "box_2d", "bbox_2d")  # the last two are Gemini's and Qwen's
TOP_FIRST = ("yxyx", "xyxy", "xywh", "cxcywh")  # what boxes of Gemini's name are, the likeliest first
THOUSANDTHS = (1000, 1000)


class _Box(BaseModel):
    box: Four


class _Detections(BaseModel):
    bboxes: list[Four]
    labels: list[str]


class _Elements(BaseModel):
    elements: list[Any]


class _Caption(BaseModel):
    """Ideogram's."""

    high_level_description: str | None = None
    compositional_deconstruction: _Elements


class _Kind(NamedTuple):
    """A kind of list: what tells it, how it is read, and whether it is ComfyUI's alone."""

    fits: Callable[[Any], bool]
    read: Callable[[Any], Scene]
    is_its_own: bool = True


def _entries(source: Source) -> Sequence[Entry]:
    data = _unnested(source.data)
    for kind in KINDS:
        if kind.fits(data):
            return [Entry((), partial(kind.read, data))]
    raise FieldError("", "it is neither a workflow with GLIGENTextBoxApply nor a list of boxes that is known")


def _recognises(source: Source) -> bool:
    data = _unnested(source.data)
    return any(kind.is_its_own and kind.fits(data) for kind in KINDS)


def _unnested(data: Any) -> Any:
    """The boxes of the one frame of a list of frames."""
    while isinstance(data, list) and len(data) == 1 and isinstance(data[0], list) and not _is_four(data[0]):
        data = data[0]
    return data[0] if isinstance(data, list) and len(data) == 1 and has(data[0], "bboxes", "labels") else data


def _keyed(*keys: str) -> _Kind:
    """A list of objects of four numbers by these names, of which x and y may be the corner or the middle."""
    return _Kind(lambda data: is_list_of(each(data), *keys), partial(_read_keyed, keys), is_its_own=False)


def _read_keyed(keys: Sequence[str], data: Any) -> Scene:
    """ComfyUI's own boxes have the corner, as most; those of detectors, which are sure of a class, the middle."""
    forms = ("cxcywh", "xywh") if is_list_of(each(data), "class", "confidence") else ("xywh", "cxcywh")
    return Scene(_things(keys, data), None, None, None, forms=forms)


def _read_edited(data: Any) -> Scene:
    """The elements of KJNodes' editor of Ideogram prompts."""
    return Scene(_things(("x", "y", "w", "h"), data), None, "xywh", FRACTIONS)


def _things(keys: Sequence[str], data: Any) -> list[Thing]:
    return [_thing(one, [one[key] for key in keys], f"{i}") for i, one in enumerate(each(data))]


def _thing(value: dict[str, Any], box: Any, where: str) -> Thing:
    name = next((value[key] for key in NAMES if isinstance(value.get(key), str) and value[key]), None)
    return Thing(where, name, part(_Box, {"box": box}, where).box)


def _read_dragged(data: Any) -> Scene:
    """The points editor's boxes, which may be drawn from any corner."""
    plain = _things(("startX", "startY", "endX", "endY"), data)
    return Scene([Thing(one.where, one.phrase, _sorted(one.box or ())) for one in plain], None, "xyxy", None)


def _sorted(box: Sequence[float]) -> list[float]:
    x0, y0, x1, y1 = box
    return [min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)]


def _read_ideogram(data: Any) -> Scene:
    caption = part(_Caption, data, "")
    placed = [(i, one) for i, one in enumerate(caption.compositional_deconstruction.elements) if has(one, "bbox")]
    things = [_thing(one, one["bbox"], f"elements.{i}") for i, one in placed]
    return Scene(things, caption.high_level_description or None, "yxyx", THOUSANDTHS, is_said=True)


def _read_detections(data: Any) -> Scene:
    """Florence2's, in corners."""
    found = part(_Detections, data, "")
    if len(found.bboxes) != len(found.labels):
        raise FieldError("labels", f"{len(found.labels)} for {len(found.bboxes)} boxes; give one each")
    pairs = enumerate(zip(found.bboxes, found.labels, strict=True))
    return Scene([Thing(f"bboxes.{i}", label, box) for i, (box, label) in pairs], None, "xyxy", None)


def _read_named(data: Any) -> Scene:
    """Detections with their boxes in a form that differs from node to node."""
    things = [_thing(one, next(one[key] for key in BOXES if key in one), f"{i}") for i, one in enumerate(data)]
    return Scene(things, None, None, None, forms=TOP_FIRST if is_list_of(data, "box_2d") else ())


def _is_named(data: Any) -> bool:
    return any(is_list_of(data, key) for key in BOXES) and not is_list_of(data, "image_id")


def _read_plain(data: Any) -> Scene:
    return Scene(
        [Thing(f"{i}", box=part(_Box, {"box": one}, f"{i}").box) for i, one in enumerate(data)], None, None, None
    )


def _is_plain(data: Any) -> bool:
    return isinstance(data, list) and len(data) > 0 and all(map(_is_four, data))


def _is_four(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(isinstance(one, int | float) for one in value)


KINDS = (
    _Kind(is_workflow, read_workflow),
    _Kind(
        lambda data: isinstance(data, dict) and has(data.get("compositional_deconstruction"), "elements"),
        _read_ideogram,
    ),
    _Kind(lambda data: is_list_of(data, "startX", "startY", "endX", "endY"), _read_dragged),
    _Kind(lambda data: is_list_of(each(data), "x", "y", "w", "h", "palette"), _read_edited),
    _keyed("x", "y", "width", "height"),
    _keyed("x", "y", "w", "h"),
    _Kind(lambda data: has(data, "bboxes", "labels"), _read_detections, is_its_own=False),
    _Kind(_is_named, _read_named, is_its_own=False),
    _Kind(_is_plain, _read_plain, is_its_own=False),
)
COMFYUI = Format("a ComfyUI file", _recognises, _entries)
