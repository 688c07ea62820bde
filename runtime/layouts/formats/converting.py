"""Converting a file: one of its pictures, read by its format and laid out; and the command line that does it."""

from collections.abc import Callable
from functools import cache

from runtime.layouts.formats.kind import Choices, Request
from runtime.layouts.formats.mending import working
from runtime.layouts.formats.picking import pick
from runtime.layouts.formats.placing import lay_out
from runtime.layouts.formats.source import Source
from runtime.layouts.formats.table import FORMATS
from runtime.layouts.layout import Layout


def conversion(source: Source, tool: str) -> Callable[[Request], Layout]:
    """What converts a file as one of the tool's; the file is gone through once, however often it is tried."""
    entries = cache(lambda: FORMATS[tool].entries(source))
    return lambda request: lay_out(pick(entries(), request).scene(), request)


def working_request(source: Source, tool: str, choices: Choices | None = None) -> Request:
    """What converts a file: with the choices, and with all that they leave open.

    Raises:
        RealCompoError: the file is damaged; what is wrong with it.
    """
    return working(Request(source.path, tool, choices or Choices()), conversion(source, tool))
