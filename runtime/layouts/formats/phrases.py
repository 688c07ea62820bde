"""Which of an object's names its prompt has."""

import re


def words_of(prompt: str | None, *names: str | None) -> str | None:
    """The first of an object's names that the prompt has, word by word; of none the first."""
    given = [name for name in names if name]
    found = [name for name in given if prompt and is_in(prompt, name)]
    return next(iter(found or given), None)


def is_in(prompt: str, name: str) -> bool:
    """Whether the prompt has the name's words side by side."""
    return re.search(rf"(?<!\w){re.escape(' '.join(name.split()))}(?!\w)", " ".join(prompt.split()), re.I) is not None
