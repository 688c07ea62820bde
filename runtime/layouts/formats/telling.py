"""Which tool's a file is; where that is not certain, or not the one that was said, the command to choose."""

from pathlib import Path

from runtime.errors import RealCompoError
from runtime.layouts.formats.captioned import is_answer
from runtime.layouts.formats.converting import working_request
from runtime.layouts.formats.doubts import doubt
from runtime.layouts.formats.kind import Choices, Request
from runtime.layouts.formats.mending import placed
from runtime.layouts.formats.source import Source
from runtime.layouts.formats.table import FORMATS


def tell(source: Source, choices: Choices) -> str:
    """The name of the tool whose file it can only be.

    Raises:
        RealCompoError: it may be none's, or several tools'.
    """
    names = _recognised(source)
    if len(names) == 1:
        return names[0]
    if refusal := doubt(source, choices):
        raise RealCompoError(refusal)
    source.check_json()
    raise RealCompoError(
        f"{source.path} is no layout that is known; if it is one, say whose: --from {', '.join(FORMATS)}"
    )


def check_tool(source: Source, tool: str, choices: Choices) -> str:
    """Raises: RealCompoError: there is no such tool, or the file is another's."""
    if tool not in FORMATS:
        raise RealCompoError(f"--from {tool} is unknown; use one of {', '.join(FORMATS)}")
    names = _recognised(source)
    if names and tool not in names:
        raise RealCompoError(_converted(source, names[0], ". Say so", choices))
    if not names and not is_answer(source.text):
        source.check_json()
    return tool


def conversion_of(path: Path) -> str | None:
    """Of a file that is refused as a layout of ours: what it is or seems to be, and the command that converts it."""
    try:
        source = Source.open(path)
        names = _recognised(source)
    except RealCompoError:
        return None
    if len(names) == 1 and names[0] != "layout":
        return _converted(source, names[0], ", no layout of ours. Convert it")
    return None if names else doubt(source, Choices())


def _converted(source: Source, tool: str, ask: str, choices: Choices | None = None) -> str:
    """What the file is, and the command; of a damaged one what is wrong with it."""
    told = f"{source.path} is {FORMATS[tool].title}"
    try:
        return f"{told}{ask}: {_working(source, tool, choices).command()}"
    except RealCompoError as error:
        return f"{told}, and cannot be converted: {placed(error)}"


def _working(source: Source, tool: str, choices: Choices | None) -> Request:
    """With the choices, or without them where they suit another tool alone."""
    try:
        return working_request(source, tool, choices)
    except RealCompoError:
        return working_request(source, tool)


def _recognised(source: Source) -> list[str]:
    return [name for name, one in FORMATS.items() if one.recognises(source)]
