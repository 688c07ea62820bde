"""The RealCompo authors' own: arguments of inference_layout.py, and their language model's answers; fractions.

https://github.com/YangLing0818/RealCompo, `inference_layout.py`, `get_layout.py` and `template.txt`. A token's location
is its index among the prompt's tokens with the start token, as ours.
"""

import re
import shlex
from collections.abc import Sequence
from functools import partial
from typing import Any

from pydantic import BaseModel

from runtime.errors import FieldError
from runtime.layouts.formats.captioned import Block, blocks, objects_of
from runtime.layouts.formats.kind import FRACTIONS, Entry, Format, Scene, Thing
from runtime.layouts.formats.parts import Four, each, is_list_of, part
from runtime.layouts.formats.source import Source, read_literal

ARGUMENTS = {
    "object": "object",
    "boundingbox": "boundingbox",
    "token_location": "token_location",
    "user_prompt": "prompt",
}


class _Arguments(BaseModel):
    prompt: str | None = None
    object: list[str]
    boundingbox: list[Four]
    token_location: list[int] | None = None


def _recognises(source: Source) -> bool:
    answered = "Objects:" in source.text and "Position:" in source.text and "Background prompt:" not in source.text
    return "--boundingbox" in source.text or answered or is_list_of(each(source.data), "boundingbox")


def _entries(source: Source) -> Sequence[Entry]:
    if is_list_of(each(source.data), "boundingbox"):
        return [Entry((), partial(_scene, _renamed(one))) for one in each(source.data)]
    if "--boundingbox" in source.text:
        return [Entry((), partial(_scene, one)) for one in _commands(source.text)]
    found = blocks(source.text)
    if not found:
        raise FieldError(
            "", "it has neither --object and --boundingbox nor a line of Objects: [('a name', [x0, y0, x1, y1])]"
        )
    return [Entry((block.get("Caption", ""),), partial(_answered, block)) for block in found]


def _renamed(value: dict[str, Any]) -> dict[str, Any]:
    """Of the names that the authors' code uses beside those of its options."""
    others = {"user_prompt": "prompt", "phrases": "object"}
    return {others.get(key, key): one for key, one in value.items()}


def _commands(text: str) -> list[dict[str, Any]]:
    """The options of each command of a shell script, or of a text that has one's options on lines of their own."""
    lines = re.sub(r"\\\r?\n", " ", text).splitlines()
    commands = [line for line in lines if "--boundingbox" in line and "--object" in line]
    return [_options(command) for command in commands or [text]]


def _options(command: str) -> dict[str, Any]:
    """By the names of `_Arguments`; a list in them is a Python literal."""
    try:
        words = shlex.split(command, comments=True)
    except ValueError as error:
        raise FieldError("", f"it is no shell command: {error}; see that every quote is closed") from error
    found: dict[str, Any] = {}
    for word, after in zip(words, [*words[1:], ""], strict=True):
        name, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and name in ARGUMENTS:
            if ARGUMENTS[name] in found:
                raise FieldError(f"--{name}", "it is given twice; write one command a line")
            found[ARGUMENTS[name]] = _value(name, value if equals else after)
    return found


def _value(name: str, text: str) -> Any:
    if name == "user_prompt":
        return text
    value = read_literal(text)
    if value is None:
        raise FieldError(f"--{name}", f"{text[:40]!r} is no list")
    return value


def _answered(block: Block) -> Scene:
    objects = objects_of(block)
    return _scene(
        {
            "prompt": block.get("Caption") or None,
            "object": [name for name, _ in objects],
            "boundingbox": [list(box) for _, box in objects],
            "token_location": read_literal(block["Position"]) if block.get("Position") else None,
        }
    )


def _scene(value: dict[str, Any]) -> Scene:
    found = part(_Arguments, value, "")
    counts = [len(found.object), len(found.boundingbox), len(found.token_location or found.object)]
    if len(set(counts)) > 1:
        raise FieldError(
            "", f"it has {counts[0]} objects, {counts[1]} boxes and {counts[2]} token locations; give as many"
        )
    tokens: list[list[int] | None] = (
        [[one] for one in found.token_location] if found.token_location else [None] * counts[0]
    )
    things = [
        Thing(f"boundingbox.{i}", phrase, box, tokens=token)
        for i, (phrase, box, token) in enumerate(zip(found.object, found.boundingbox, tokens, strict=True))
    ]
    return Scene(things, found.prompt, "xyxy", FRACTIONS)


REALCOMPO = Format("a file of RealCompo's authors", _recognises, _entries)
