"""How lines for people stay short: one of many is named, and what is long is cut where all can see it."""

from collections.abc import Mapping, Sequence
from typing import Any

LONGEST = 300  # characters of a line
_WORD = 90  # characters of a path or key inside it
COMMAND = "python -m "


def shown(word: Any, most: int = _WORD) -> str:
    """A path, key or value for a line; of a long one both ends, with … between."""
    text = " ".join(str(word).split())
    text = text if text.isprintable() else ascii(text)[1:-1]
    if len(text) <= most:
        return text
    tail = most * 2 // 3
    return f"{text[: most - tail - 1]}…{text[-tail:]}"


def some_of(names: Sequence[str], most: int = 1) -> str:
    """The first of many: "X and 3 more"."""
    first = ", ".join(map(shown, names[:most]))
    return f"{first} and {len(names) - most:,} more" if len(names) > most else first


def knob_words(knobs: Mapping[str, Any]) -> str:
    """Options of a call, for people."""
    return ", ".join(f"{name}={value}" for name, value in knobs.items())


def one_line(message: str) -> str:
    """A message as a line of at most 300 characters: of a longer one the longest words lose their middles, and after
    that the line its own.

    A sentence with a command does not count and is kept whole: it could not be run in part.
    """
    line = " ".join(message.split())
    if len(line) <= LONGEST:
        return line
    if command := _with_command(line):
        start = line.removesuffix(command).rstrip()
        return f"{start if len(start) <= LONGEST else f'{start[: LONGEST - 1]}…'} {command}"
    return shown(" ".join(map(shown, line.split())), LONGEST)


def _with_command(line: str) -> str:
    """From the sentence on that has a command; empty without one."""
    at = line.find(COMMAND)
    before = line.rfind(". ", 0, at)
    return "" if at < 0 else line[at if before < 0 else before + 2 :]
