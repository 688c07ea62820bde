"""What language models answer to the templates of LMD and RealCompo: text with Caption, Objects and other lines."""

import re
from typing import Any

from runtime.errors import FieldError
from runtime.layouts.formats.parts import Four, named_boxes
from runtime.layouts.formats.source import read_literal

LABELS = ("Caption", "Objects", "Position", "Background prompt", "Negative prompt")
_LINE = re.compile(rf"^[ \t]*({'|'.join(LABELS)})[ \t]*:", re.MULTILINE | re.IGNORECASE)

Block = dict[str, str]


def blocks(text: str) -> list[Block]:
    """The text after each label, of each picture that has objects; an answer may start with the list itself."""
    before, *pieces = _LINE.split(text)
    found: list[Block] = [{"Objects": before}] if before.lstrip().startswith("[") else [{}]
    for label, value in zip(pieces[::2], pieces[1::2], strict=True):
        name = label.capitalize()
        if name in found[-1] or name == "Caption":
            found.append({})
        found[-1][name] = value.strip()
    return [block for block in found if block.get("Objects", "").strip()]


def is_answer(text: str) -> bool:
    """Whether it has objects, and a line that a label starts; the list that it may start with is no damaged JSON."""
    return _LINE.search(text) is not None and bool(blocks(text))


def objects_of(block: Block) -> list[tuple[str, Four]]:
    """(name, box) of each object.

    Raises:
        FieldError: the text is no list of them.
    """
    text = block["Objects"].strip()
    if text.casefold().startswith("no objects"):
        return []
    pairs = read_literal(text)
    if pairs is None:
        raise FieldError("Objects", f"{text[:40]!r} is no list such as [('a red ball', [10, 20, 100, 200])]")
    return named_boxes(pairs_of(pairs), "Objects")


def pairs_of(value: Any) -> Any:
    """LMD's older dictionaries of name and bounding_box as pairs."""
    if not isinstance(value, list):
        return value
    return [[one.get("name"), one.get("bounding_box")] if isinstance(one, dict) else one for one in value]
