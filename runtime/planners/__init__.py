"""Layouts from language: a planner takes a prompt and says where each of its objects goes.

A file is read by `Layout.from_file`; `runtime.planners.offline` parses the prompt, `runtime.planners.chat` asks a
language model.
"""

from collections.abc import Callable
from typing import Any

from runtime.errors import RealCompoError
from runtime.layouts.layout import Layout

PLANNERS = ("offline", "chat")
Planner = Callable[[str], Layout]


def make_planner(name: str, **settings: Any) -> Planner:
    """The planner of that name; settings are `runtime.planners.chat.ChatPlanner`'s, those that are None left out.

    Raises:
        RealCompoError: an unknown planner, settings that it has not, or a setting that is wrong.
    """
    given = {setting: value for setting, value in settings.items() if value is not None}
    if name == "chat":
        from runtime.planners.chat import ChatPlanner

        return ChatPlanner(**given)
    if name != "offline":
        raise RealCompoError(f"planner {name!r} is unknown; use one of {', '.join(PLANNERS)}")
    if given:
        raise RealCompoError(f"the offline planner has no {', '.join(given)}; leave it out, or use --planner chat")
    from runtime.planners.offline import plan

    return plan


def check_prompt(prompt: str) -> None:
    """Raises: RealCompoError: the prompt has no word, or is no text that UTF-8 can hold."""
    if not prompt.strip():
        raise RealCompoError("the prompt is empty; say what to draw, as in 'two red balls left of a cube'")
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise RealCompoError(f"the prompt {prompt!a} is not UTF-8 text, from character {error.start} on") from error
