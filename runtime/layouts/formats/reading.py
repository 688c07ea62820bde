"""A layout from another tool's file."""

from pathlib import Path

from runtime.errors import RealCompoError
from runtime.layouts.formats.boxes import FORMS
from runtime.layouts.formats.converting import conversion
from runtime.layouts.formats.kind import Choices, Request
from runtime.layouts.formats.mending import Attempt, Unsaid, answered, placed
from runtime.layouts.formats.source import Source
from runtime.layouts.formats.telling import check_tool, tell
from runtime.layouts.layout import PLACES, Layout


def read_tools_layout(path: Path | str, tool: str | None = None, choices: Choices | None = None) -> Layout:
    """A layout from another tool's file; of no tool given, the one whose file it can only be.

    Raises:
        RealCompoError: the file cannot be read, is not the tool's, or does not say what its numbers mean; the message
            names the command that mends it.
    """
    source, choices = Source.open(path), choices or Choices()
    _check_choices(choices)
    name = check_tool(source, tool, choices) if tool else tell(source, choices)
    request, attempt = Request(source.path, name, choices), conversion(source, name)
    try:
        return attempt(request)
    except Unsaid as unsaid:
        raise RealCompoError(f"{source.path}: {_mended(unsaid, request, attempt)}") from unsaid
    except RealCompoError as error:
        raise RealCompoError(f"{source.path}: {placed(error)}") from error


def _mended(unsaid: Unsaid, request: Request, attempt: Attempt) -> str:
    """The refusal with the command, or what is wrong with the file besides, of which no command would help."""
    try:
        return f"{placed(unsaid)} {answered(unsaid, request, attempt).command()}"
    except RealCompoError as error:
        return placed(error)


def _check_choices(choices: Choices) -> None:
    for name, value, allowed in (("boxes", choices.boxes, tuple(FORMS)), ("place", choices.place, PLACES)):
        if value is not None and value not in allowed:
            raise RealCompoError(f"--{name} {value} is unknown; use one of {', '.join(allowed)}")
    if choices.size and not (len(choices.size) == 2 and min(choices.size) > 0):
        raise RealCompoError(
            f"--size {'x'.join(f'{side:g}' for side in choices.size)} is no width and height above 0; give 640x480, say"
        )
