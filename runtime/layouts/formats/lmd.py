"""LLM-grounded Diffusion: its model's answers, its caches of them, and its specifications; pixels of 512x512.

https://github.com/TonyLianLong/LLM-groundedDiffusion, `prompt.py` and `utils/parse.py`.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from pydantic import BaseModel

from runtime.errors import FieldError
from runtime.layouts.formats.captioned import Block, blocks, objects_of, pairs_of
from runtime.layouts.formats.kind import Entry, Format, Scene, Thing
from runtime.layouts.formats.parts import Four, each, is_list_of, named_boxes, part
from runtime.layouts.formats.source import Source

CANVAS = (512, 512)  # which its template tells the model


class _Specification(BaseModel):
    prompt: str | None = None
    gen_boxes: list[Any]
    bg_prompt: str | None = None
    extra_neg_prompt: str | None = None


def _recognises(source: Source) -> bool:
    return "Background prompt:" in source.text or is_list_of(each(source.data), "gen_boxes")


def _entries(source: Source) -> Sequence[Entry]:
    if is_list_of(each(source.data), "gen_boxes"):
        return [Entry((), partial(_specified, one)) for one in each(source.data)]
    if isinstance(source.data, dict):
        return _cached(source.data)
    found = blocks(source.text)
    if not found:
        raise FieldError("", "it has no line of Objects: [('a name', [x, y, width, height]), ...]")
    return [Entry((block.get("Caption", ""),), partial(_answered, block)) for block in found]


def _cached(cache: dict[str, Any]) -> list[Entry]:
    """A cache has a list of answers for each caption."""
    answers = [(caption, answer) for caption, given in cache.items() for answer in each(given)]
    if not answers or not all(isinstance(answer, str) for _, answer in answers):
        raise FieldError("", "it is no cache of LMD, which has a list of answers for each caption")
    return [
        Entry((caption,), partial(_answered, {"Caption": caption, **block}))
        for caption, answer in answers
        for block in blocks(answer)
    ]


def _answered(block: Block) -> Scene:
    return _scene(
        objects_of(block),
        block.get("Caption") or None,
        block.get("Background prompt", ""),
        block.get("Negative prompt", ""),
        "Objects",
    )


def _specified(value: dict[str, Any]) -> Scene:
    spec = part(_Specification, value, "")
    objects = named_boxes(pairs_of(spec.gen_boxes), "gen_boxes")
    return _scene(objects, spec.prompt, spec.bg_prompt or "", spec.extra_neg_prompt or "", "gen_boxes")


def _scene(
    objects: Sequence[tuple[str, Four]], caption: str | None, background: str, negative: str, where: str
) -> Scene:
    things = [Thing(f"{where}.{i}", name.rstrip(". "), box) for i, (name, box) in enumerate(objects)]
    negative = "" if negative.casefold() == "none" else negative
    notes = (
        [f"a layout has no negative prompt; give it to generate: --negative-prompt {negative!r}"] if negative else []
    )
    return Scene(things, caption or _prompt(background, things), "xywh", CANVAS, notes=notes)


def _prompt(background: str, things: Sequence[Thing]) -> str | None:
    """As LMD makes it where there is no caption."""
    names = ", ".join(dict.fromkeys(thing.phrase or "" for thing in things))
    return " with ".join(filter(None, (background, names))) or None


LMD = Format("an LMD file", _recognises, _entries)
