"""What several tools' files are made of: four numbers, named boxes, parts of JSON by their places."""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, Field

from runtime.errors import FieldError, RealCompoError
from runtime.json_text import validated

M = TypeVar("M", bound=BaseModel)
Four = tuple[float, float, float, float]  # a box in some form
Side = Annotated[float, Field(gt=0)]  # of an image, in pixels


def _none_if_empty(value: Any) -> Any:
    """Tools write an empty list for no box."""
    return (tuple(value) or None) if isinstance(value, list) else value


FourOrNone = Annotated[Four | None, BeforeValidator(_none_if_empty)]


class NamedBoxes(BaseModel):
    """Pairs, as in ("a red ball", [10, 20, 100, 200]); a null name marks what a model's answer was not read as."""

    boxes: list[tuple[str | None, Four | None]]


def part(model: type[M], value: Any, where: str) -> M:
    """A model of a part of a file's JSON, which stands at `where`.

    Raises:
        FieldError: a wrong field; the message says what is wrong with which field of the part.
    """
    try:
        return validated(model, value)
    except RealCompoError as error:
        raise FieldError(where, f"{error}".removeprefix("the file: ") if where else f"{error}") from error


def named_boxes(value: Any, where: str) -> list[tuple[str, Four]]:
    """(name, box) of each object of a list of pairs, those without a name or a box left out.

    Raises:
        FieldError: no such list.
    """
    pairs = part(NamedBoxes, {"boxes": value}, where).boxes
    return [(name, box) for name, box in pairs if name is not None and box is not None]


def is_list_of(value: Any, *keys: str) -> bool:
    """Whether it is a list, not empty, of objects that all have these keys."""
    return isinstance(value, list) and len(value) > 0 and all(has(one, *keys) for one in value)


def has(value: Any, *keys: str) -> bool:
    """Whether it is an object with these keys."""
    return isinstance(value, dict) and all(key in value for key in keys)


def each(value: Any) -> list[Any]:
    """A list as it is, one thing as a list of it."""
    return value if isinstance(value, list) else [value]
