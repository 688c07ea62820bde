"""The tools whose layouts are read, and which of them a file is of."""

from pathlib import Path

from runtime.errors import RealCompoError
from runtime.layouts.formats.coco import COCO
from runtime.layouts.formats.comfyui import COMFYUI
from runtime.layouts.formats.doubts import doubt
from runtime.layouts.formats.gligen import GLIGEN
from runtime.layouts.formats.instancediffusion import INSTANCEDIFFUSION
from runtime.layouts.formats.kind import Format, convert_command
from runtime.layouts.formats.layoutgpt import LAYOUTGPT
from runtime.layouts.formats.lmd import LMD
from runtime.layouts.formats.ours import LAYOUT
from runtime.layouts.formats.realcompo import REALCOMPO
from runtime.layouts.formats.source import Source

FORMATS: dict[str, Format] = {
    "coco": COCO,
    "lmd": LMD,
    "layoutgpt": LAYOUTGPT,
    "instancediffusion": INSTANCEDIFFUSION,
    "gligen": GLIGEN,
    "realcompo": REALCOMPO,
    "comfyui": COMFYUI,
    "layout": LAYOUT,
}


def tell(source: Source) -> str:
    """The name of the tool whose file it can only be.

    Raises:
        RealCompoError: it may be none's, or several tools'.
    """
    names = _recognised(source)
    if len(names) == 1:
        return names[0]
    if refusal := doubt(source):
        raise RealCompoError(refusal)
    source.check_json()
    raise RealCompoError(
        f"{source.path} is no layout that is known; if it is one, say whose: --from {', '.join(FORMATS)}"
    )


def conversion_of(path: Path) -> str | None:
    """Of a file that is refused as a layout of ours: what it is or seems to be, and the command that converts it."""
    try:
        source = Source.open(path)
        names = _recognised(source)
    except RealCompoError:
        return None
    if len(names) == 1 and names[0] != "layout":
        return f"{path} is {FORMATS[names[0]].title}, no layout of ours. Convert it: {convert_command(path, names[0])}"
    return None if names else doubt(source)


def _recognised(source: Source) -> list[str]:
    return [name for name, one in FORMATS.items() if one.recognises(source)]


def check_tool(source: Source, tool: str) -> str:
    """Raises: RealCompoError: there is no such tool, or the file is another's."""
    if tool not in FORMATS:
        raise RealCompoError(f"--from {tool} is unknown; use one of {', '.join(FORMATS)}")
    names = _recognised(source)
    if names and tool not in names:
        other = FORMATS[names[0]].title
        raise RealCompoError(f"{source.path} is {other}. Say so: {convert_command(source.path, names[0])}")
    source.check_json()
    return tool
