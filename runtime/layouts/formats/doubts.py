"""Files that may be several things: what each seems to be, and what to run when it is known."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from runtime.errors import RealCompoError
from runtime.layouts.formats.boxes import MEANINGS
from runtime.layouts.formats.captioned import is_answer
from runtime.layouts.formats.comfyui import COMFYUI
from runtime.layouts.formats.converting import working_request
from runtime.layouts.formats.kind import Choices, Request
from runtime.layouts.formats.mending import placed
from runtime.layouts.formats.parts import is_list_of
from runtime.layouts.formats.source import Source


class Doubt(NamedTuple):
    """What a file seems to be, and who may have written it.

    Args:
        how: what is said before the command; {boxes} is what that takes boxes for.
        tools: of which the first is named as whose the file needs no more choices, or else the first that can read it;
            none where the file as it is converts with no command.
        boxes, size: what the command says where the user has not.
    """

    seems: Callable[[Source], bool]
    what: str
    how: str = ""
    tools: Sequence[str] = ("comfyui",)
    boxes: str | None = None
    size: tuple[float, float] | None = None


def _reads_as_list(source: Source) -> bool:
    try:
        return bool(COMFYUI.entries(source))
    except ValueError:
        return False


DOUBTS: Sequence[Doubt] = (
    Doubt(
        lambda source: is_list_of(source.data, "image_id", "category_id", "bbox"),
        "is a list of COCO's detections, without the images' sizes and the categories' names; put them into one file "
        "as images, annotations and categories, and convert that --from coco",
        tools=(),
    ),
    Doubt(
        lambda source: "Objects:" in source.text or is_answer(source.text),
        "is a language model's answer to LMD, in pixels, or to RealCompo, in fractions",
        "Say whose, as in",
        ("lmd", "realcompo"),
    ),
    Doubt(
        lambda source: is_list_of(source.data, "box_2d"),
        "is a list of boxes that seem to be Gemini's",
        "If they are {boxes}, of 0 to 1000",
        boxes="yxyx",
        size=(1000, 1000),
    ),
    Doubt(
        _reads_as_list,
        "is a list of boxes, as many tools write it",
        "If they are {boxes}",
    ),
)


def doubt(source: Source, choices: Choices) -> str | None:
    """The refusal of a file that seems to be something."""
    one = next((one for one in DOUBTS if one.seems(source)), None)
    return None if one is None else f"{source.path} {one.what}{_advice(one, source, choices)}"


def _advice(one: Doubt, source: Source, choices: Choices) -> str:
    """The command, or what is wrong with the file besides."""
    if not one.tools:
        return ""
    wanted = replace(choices, boxes=choices.boxes or one.boxes, size=choices.size or one.size)
    requests, problems = _requests(one.tools, source, wanted)
    if not requests:
        return f", and cannot be converted: {placed(problems[0])}"
    request = next((request for request in requests if request.choices == wanted), requests[0])
    return f". {one.how.format(boxes=MEANINGS[request.choices.boxes or 'xyxy'])}: {request.command()}"


def _requests(
    tools: Sequence[str], source: Source, choices: Choices
) -> tuple[Sequence[Request], Sequence[RealCompoError]]:
    """What converts the file as each tool's that can read it, and why the others cannot."""
    requests, problems = [], []
    for tool in tools:
        try:
            requests.append(working_request(source, tool, choices))
        except RealCompoError as error:
            problems.append(error)
    return requests, problems
