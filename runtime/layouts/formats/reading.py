"""A layout from another tool's file."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from runtime.errors import FieldError, RealCompoError
from runtime.layouts.formats.boxes import FORMS
from runtime.layouts.formats.kind import Choices, Entry, Request
from runtime.layouts.formats.placing import lay_out
from runtime.layouts.formats.source import Source
from runtime.layouts.formats.table import FORMATS, check_tool, tell
from runtime.layouts.layout import PLACES, Layout


def read_tools_layout(path: Path | str, tool: str | None = None, choices: Choices | None = None) -> Layout:
    """A layout from another tool's file; of no tool given, the one whose file it can only be.

    Raises:
        RealCompoError: the file cannot be read, is not the tool's, or does not say what its numbers mean; the message
            names the command that mends it.
    """
    source, choices = Source.open(path), choices or Choices()
    _check_choices(choices)
    name = check_tool(source, tool) if tool else tell(source)
    request = Request(source.path, name, choices)
    try:
        entry = _pick(FORMATS[name].entries(source), request)
        return lay_out(entry.scene(), request)
    except RealCompoError as error:
        field = getattr(error, "field", "")
        raise RealCompoError(": ".join(filter(None, (f"{source.path}", field, f"{error}")))) from error


def _check_choices(choices: Choices) -> None:
    for name, value, allowed in (("boxes", choices.boxes, tuple(FORMS)), ("place", choices.place, PLACES)):
        if value is not None and value not in allowed:
            raise RealCompoError(f"--{name} {value} is unknown; use one of {', '.join(allowed)}")
    if choices.size and not (len(choices.size) == 2 and min(choices.size) > 0):
        raise RealCompoError(
            f"--size {'x'.join(f'{side:g}' for side in choices.size)} is no width and height above 0; give 640x480, say"
        )


def _pick(entries: Sequence[Entry], request: Request) -> Entry:
    """The one that was asked for, by a name or its place in the list; without a wish, the only one."""
    wish = request.choices.entry
    if not entries:
        raise FieldError("", "it has no picture with objects")
    if wish is None:
        if len(entries) == 1:
            return entries[0]
        first = next(iter(entries[0].names), "0")
        command = replace(request, choices=replace(request.choices, entry=first)).command()
        raise FieldError("", f"it has {len(entries):,} pictures. Say which, as in: {command}")
    named = [entry for entry in entries if f"{wish}" in entry.names]
    if len(named) > 1:
        raise FieldError("", f"{len(named)} pictures are called {wish!r}; give --entry a place in the list, from 0")
    if named:
        return named[0]
    if f"{wish}".isdecimal() and int(wish) < len(entries):
        return entries[int(wish)]
    raise FieldError("", f"it has no picture {wish!r}; it has {len(entries):,}, by number from 0")
