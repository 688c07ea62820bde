"""How lines for people stay short: one of many is named, and what is long is cut where all can see it."""

from collections.abc import Sequence
from typing import Any

LONGEST = 300  # characters of a line
_WORD = 90  # characters of a path or key inside it


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


def one_line(message: str) -> str:
    """A message as a line of at most 300 characters. One that is longer loses the middles of its longest words, and
    after that its own."""
    words = message.split()
    if len(" ".join(words)) > LONGEST:
        words = [shown(word) for word in words]
    return shown(" ".join(words), LONGEST)
