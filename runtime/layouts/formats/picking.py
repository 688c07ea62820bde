"""Which of a file's pictures is asked for."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from runtime.errors import FieldError
from runtime.layouts.formats.kind import Entry, Request
from runtime.layouts.formats.mending import Unsaid

LONGEST_NAME = 60  # characters of one that a command is to have


def pick(entries: Sequence[Entry], request: Request) -> Entry:
    """The one that was asked for, by a name or its place in the list; without a wish, the only one.

    Raises:
        FieldError: there is none, or several.
    """
    wish = request.choices.entry
    if not entries:
        raise FieldError("", "it has no picture with objects")
    if wish is None:
        if len(entries) == 1:
            return entries[0]
        raise Unsaid("", f"it has {len(entries):,} pictures. Say which, as in:", _wishes(entries))
    named = [entry for entry in entries if f"{wish}" in entry.names]
    if len(named) > 1:
        raise FieldError("", f"{len(named)} pictures are called {wish!r}; give --entry a place in the list, from 0")
    if named:
        return named[0]
    if f"{wish}".isdecimal() and int(wish) < len(entries):
        return entries[int(wish)]
    raise FieldError("", f"it has no picture {wish!r}; it has {len(entries):,}, by number from 0")


def _wishes(entries: Sequence[Entry]) -> Iterator[Mapping[str, str]]:
    """What each picture can be asked for by: a name that no other has, or its place where that is no other's name."""
    bearers = Counter(name for entry in entries for name in set(entry.names))
    for i, entry in enumerate(entries):
        names = [name for name in entry.names if bearers[name] == 1 and _is_short(name)]
        names += [f"{i}"] if not bearers[f"{i}"] else []
        if names:
            yield {"entry": names[0]}


def _is_short(name: str) -> bool:
    """Whether a command keeps it as it is."""
    return 0 < len(name) <= LONGEST_NAME and name.isprintable() and name == " ".join(name.split())
