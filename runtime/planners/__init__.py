"""Layouts from language: a planner takes a prompt and says where each of its objects goes.

A file is read by `Layout.from_file`; `runtime.planners.offline` parses the prompt, `runtime.planners.chat` asks a
language model.
"""

import json
from collections.abc import Callable
from typing import Literal, get_args

from runtime.errors import RealCompoError
from runtime.layout import Layout

PlannerName = Literal["offline", "chat"]
PLANNERS: tuple[PlannerName, ...] = get_args(PlannerName)
Planner = Callable[[str], Layout]


def check_prompt(prompt: str) -> None:
    """Raises: RealCompoError: the prompt has no word, or is no text that UTF-8 can hold."""
    if not prompt.strip():
        raise RealCompoError("the prompt is empty; say what to draw, as in 'two red balls left of a cube'")
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise RealCompoError(f"the prompt {prompt!a} is not UTF-8 text, from character {error.start} on") from error


def layout_json(layout: Layout) -> str:
    """A layout of boxes as `Layout.from_file` reads it, one region a line, in ASCII."""
    regions = [
        json.dumps({"phrase": region.phrase, "box": [round(edge, 4) for edge in region.bounding_box()]})
        for region in layout.regions
    ]
    lines = ",\n".join(f"    {region}" for region in regions)
    return f'{{\n  "prompt": {json.dumps(layout.prompt)},\n  "regions": [\n{lines}\n  ]\n}}'
