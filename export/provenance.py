"""What a bundle is made from and how: sources by their whole paths, and the command that makes it again."""

import os.path
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from export.pairs import PAIRS, Pair

_NAMES = {"compute_capabilities": "compute_capability"}  # where the command line's option is called otherwise


def located(pair: Pair) -> Pair:
    """The pair with the user's own files and folders by their whole paths. A known pair's models stay as they are."""
    stock = models_of(PAIRS[pair.name]) if pair.name in PAIRS else ()

    def whole(model: str) -> str:
        return model if model in stock else whole_path(model)

    loras = tuple(replace(lora, file=whole_path(lora.file)) for lora in pair.loras)
    return replace(pair.with_models(whole), loras=loras)


def whole_path(source: str) -> str:
    """A file or folder by its whole path; what is none stays as it is."""
    path = Path(source).expanduser()
    return str(absolute(path)) if path.exists() else source


def absolute(path: Path) -> Path:
    """A path from the root, in the user's own names. Links are not followed: what one points to, such as a blob of a
    hub's cache, has another name, and no suffix."""
    whole, tidy = path.absolute(), Path(os.path.normpath(path.absolute()))
    elsewhere = whole.exists() and not (tidy.exists() and tidy.samefile(whole))  # a .. may lead out of a link
    return whole if elsewhere else tidy


def models_of(pair: Pair) -> tuple[str, ...]:
    """Hub ids, folders and files."""
    return pair.text_to_image, pair.spatial, *(control.model for control in pair.controls)


def build_command(pair: Pair, options: Any) -> tuple[str, ...]:
    """What follows `python -m export` to build a located pair so, but for --out.

    Args:
        options: a dataclass whose fields are named like the command line's options.
    """
    loras = (("--lora", lora.words) for lora in pair.loras)
    words = [word for option in (*own_models(pair), *loras) for word in option]
    return "build", pair.name, *words, *option_words(options)


def own_models(pair: Pair) -> Iterator[tuple[str, str]]:
    """The options that replace the models of the known pair."""
    known = PAIRS.get(pair.name)
    if known is None or pair.text_to_image != known.text_to_image:
        yield "--text-to-image", pair.text_to_image
    if pair.controls and (known is None or pair.controls != known.controls):
        yield from (("--spatial", control.words) for control in pair.controls)
    if not pair.controls and (known is None or pair.spatial != known.spatial):
        yield "--spatial", pair.spatial


def option_words(options: Any) -> list[str]:
    """The options of a record that are not its defaults."""
    usual = type(options)()
    asked = {field.name: getattr(options, field.name) for field in fields(options)}
    return [word for name, value in asked.items() if value != getattr(usual, name) for word in _words(name, value)]


def _words(name: str, value: Any) -> list[str]:
    option = f"--{_NAMES.get(name, name).replace('_', '-')}"
    match value:
        case True:
            return [option]
        case Path():
            return [option, str(absolute(value))]
        case (int(), *_):
            return [option, ":".join(map(str, value))]
        case tuple():
            return [word for one in value for word in (option, str(one))]
        case _:
            return option_words(value) if is_dataclass(value) else [option, str(value)]
