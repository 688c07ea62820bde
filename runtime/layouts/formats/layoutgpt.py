"""LayoutGPT: a language model's CSS in pixels of a canvas, its parsed layouts, and NSR-1K's, in fractions.

https://github.com/weixi-feng/LayoutGPT, `run_layoutgpt_2d.py`, `parse_llm_output.py` and `dataset/NSR-1K/`.
"""

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

from runtime.errors import FieldError
from runtime.layouts.formats.kind import FRACTIONS, Entry, Format, Scene, Size, Thing
from runtime.layouts.formats.parts import each, has, is_list_of, named_boxes
from runtime.layouts.formats.phrases import words_of
from runtime.layouts.formats.source import Source

_RULE = re.compile(r"^[ \t]*(?P<name>[^{}\n:]+?)[ \t]*\{(?P<body>[^{}]*)\}", re.MULTILINE)
_CANVAS = re.compile(r"image is (\d+)px wide and (\d+)px high")
_PROMPT = re.compile(r"^[ \t]*Prompt:[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_NUMBER = re.compile(r"(-?\d+(?:\.\d+)?)(?:px)?")
PLACE = ("left", "top", "width", "height")
OF_3D = {"length", "depth", "orientation"}  # properties of its rooms' furniture
PARSED, NSR_1K = ("query_id", "iter"), ("id",)  # what tells its own layouts, in corners, from the data set's


def _recognises(source: Source) -> bool:
    every = each(source.data)
    if is_list_of(every, "prompt", "object_list") or is_list_of(every, "prompt", "obj1", "obj2"):
        return True
    return source.data is None and any(
        set(PLACE) <= _properties(rule["body"]).keys() for rule in _RULE.finditer(source.text)
    )


def _entries(source: Source) -> Sequence[Entry]:
    if source.data is not None:
        return [Entry(_names(one), partial(_parsed, one)) for one in each(source.data)]
    canvas = _CANVAS.search(source.text)
    size = (float(canvas[1]), float(canvas[2])) if canvas else None
    _, *pieces = _PROMPT.split(source.text)
    if not pieces:
        return [Entry((), partial(_styled, None, source.text, size))]
    pairs = zip(pieces[::2], pieces[1::2], strict=True)
    return [Entry((prompt,), partial(_styled, prompt, text, size)) for prompt, text in pairs if _RULE.search(text)]


def _names(value: Any) -> tuple[str, ...]:
    if not has(value, "prompt"):
        raise FieldError("", "it has no prompt and object_list, as LayoutGPT's layouts have")
    number = value.get("query_id", value.get("id"))
    return (f"{value['prompt']}",) if number is None else (f"{number}", f"{value['prompt']}")


def _styled(prompt: str | None, text: str, size: Size | None) -> Scene:
    rules = list(_RULE.finditer(text))
    if not rules:
        raise FieldError("", "it has no line such as: clock {height: 20px; width: 21px; top: 1px; left: 0px; }")
    return Scene([_ruled(rule, prompt) for rule in rules], prompt, "xywh", size, is_said=size is not None)


def _ruled(rule: re.Match[str], prompt: str | None) -> Thing:
    name = rule["name"].strip()
    properties = _properties(rule["body"])
    if OF_3D & properties.keys():
        raise FieldError(name, "it is furniture in a room; a picture's objects have left, top, width and height alone")
    if set(PLACE) != properties.keys():
        raise FieldError(name, f"it has {', '.join(properties) or 'nothing'}; an object has {', '.join(PLACE)}")
    return Thing(name, _phrase(name, prompt), [_number(name, properties[side]) for side in PLACE])


def _properties(body: str) -> dict[str, str]:
    pairs = (line.split(":", 1) for line in body.split(";") if ":" in line)
    return {name.strip().casefold(): value.strip() for name, value in pairs}


def _number(name: str, text: str) -> float:
    found = _NUMBER.fullmatch(text)
    if not found:
        raise FieldError(name, f"{text[:40]!r} is no number of pixels, as in 20px")
    return float(found[1])


def _phrase(name: str, prompt: str | None) -> str | None:
    """Without the number that tells objects of a name apart; LayoutGPT's parser turns spaces into hyphens."""
    plain = re.sub(r"[\s-]*\d+$", "", name)
    return words_of(prompt, plain, plain.replace("-", " ")) if prompt else plain.replace("-", " ")


def _parsed(value: dict[str, Any]) -> Scene:
    prompt = f"{value['prompt']}"
    pairs = value["object_list"] if "object_list" in value else [value.get("obj1"), value.get("obj2")]
    boxes = named_boxes(pairs, "object_list" if "object_list" in value else "obj1")
    things = [Thing(f"object_list.{i}", _phrase(name, prompt), box) for i, (name, box) in enumerate(boxes)]
    return Scene(things, prompt, _form(value), FRACTIONS)


def _form(value: dict[str, Any]) -> str | None:
    """Corners in what its scripts wrote, and left, top, width, height in NSR-1K."""
    if has(value, *PARSED):
        return "xyxy"
    return "xywh" if has(value, *NSR_1K) else None


LAYOUTGPT = Format("a LayoutGPT file", _recognises, _entries)
