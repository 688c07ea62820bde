"""Files that may be several things: what each seems to be, and what to run when it is known."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from runtime.layouts.formats.comfyui import COMFYUI
from runtime.layouts.formats.kind import Choices, convert_command
from runtime.layouts.formats.parts import is_list_of
from runtime.layouts.formats.source import Source


class Doubt(NamedTuple):
    """What a file seems to be, and who may have written it."""

    seems: Callable[[Source], bool]
    what: str
    tool: str
    choices: Choices = Choices()


def _reads_as_list(source: Source) -> bool:
    try:
        return bool(COMFYUI.entries(source))
    except ValueError:
        return False


DOUBTS: Sequence[Doubt] = (
    Doubt(
        lambda source: is_list_of(source.data, "image_id", "category_id", "bbox"),
        "is a list of COCO's detections, without the images' sizes and the categories' names; put them into one file "
        "as images, annotations and categories. Then run",
        "coco",
    ),
    Doubt(
        lambda source: "Objects:" in source.text,
        "is a language model's answer to LMD, in pixels, or, with --from realcompo, to RealCompo, in fractions. Say so",
        "lmd",
    ),
    Doubt(_reads_as_list, "is a list of boxes that many tools write. If they are left, top, right, bottom", "comfyui",
          Choices(boxes="xyxy")),
)  # fmt: skip


def doubt(source: Source) -> str | None:
    """The refusal of a file that seems to be something."""
    for one in DOUBTS:
        if one.seems(source):
            return f"{source.path} {one.what}: {convert_command(source.path, one.tool, one.choices)}"
    return None
