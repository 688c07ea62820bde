"""JSON as people and their tools write it: read so that no mark, key or number is misread without a word."""

import json
import math
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from runtime.errors import FieldError, RealCompoError
from runtime.messages import shown

M = TypeVar("M", bound=BaseModel)
UNION = ("int", "float", "str")  # what pydantic adds to the place of a value that may be either
UNKNOWN_FIELD = ("extra_forbidden", "unexpected_keyword_argument")  # of models, of dataclasses
MOST_DIGITS = 300  # of an integer: a float has no more


class NotJson(RealCompoError):
    """A text that is no JSON at all."""


def read_json(model: type[M], content: bytes) -> M:
    """A model of a file's bytes: UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Raises:
        RealCompoError: no JSON, a name given twice, or a number that is none.
        FieldError: a wrong field; the message names it too.
    """
    text = decoded(content)
    parse_json(text)
    return _validated(model, text)


def validated(model: type[M], value: Any) -> M:
    """A model of a part of a JSON value.

    Raises:
        RealCompoError: a wrong field; the message names it.
    """
    return _validated(model, json.dumps(value))


def _validated(model: type[M], text: str) -> M:
    try:
        return model.model_validate_json(text, strict=True)  # strict: a number in quotes is a mistake
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = _field(first)
        raise FieldError(field, f"{field or 'the file'}: {_problem(first, model)}") from error


def decoded(content: bytes) -> str:
    """A file's text: UTF-8, UTF-16 or UTF-32, with or without a byte order mark."""
    try:
        return content.decode(json.detect_encoding(content))
    except UnicodeDecodeError as error:
        raise _bad(f"it is not {error.encoding} text, from byte {error.start} on; save it as UTF-8") from error


def parse_json(text: str) -> Any:
    """A text's value; refuses what pydantic's own parser takes the last of, or takes for infinity."""
    try:
        return json.loads(
            text, object_pairs_hook=_unique, parse_constant=_no_number, parse_float=_finite, parse_int=_short_integer
        )
    except json.JSONDecodeError as error:
        place = f"at line {error.lineno} column {error.colno}"
        raise NotJson(f"the file: Invalid JSON: {error.msg} {place}") from error
    except RecursionError as error:
        raise _bad("Invalid JSON: it is nested too deeply") from error


def _bad(problem: str) -> RealCompoError:
    return RealCompoError(f"the file: {problem}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise RealCompoError(f"{_printable(name)}: given twice in one object; leave one")
        found[name] = value
    return found


def _no_number(constant: str) -> NoReturn:
    raise _bad(f"{constant} is no number in JSON; where nothing is known, write null")


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise _bad(f"{shown(number)} is too large a number")
    return value


def _short_integer(number: str) -> int:
    if len(number) > MOST_DIGITS:
        raise _bad(f"{shown(number)} is too large a number")
    return int(number)


def _field(error: ErrorDetails) -> str:
    return ".".join(_printable(str(part)) for part in error["loc"] if part not in UNION)


def _problem(error: ErrorDetails, model: type[BaseModel]) -> str:
    if error["type"] not in UNKNOWN_FIELD:
        return error["msg"].removeprefix("Value error, ")
    close = get_close_matches(str(error["loc"][-1]), sorted(set(_names(model.model_json_schema()))), n=1)
    return f"unknown field; {f'did you mean {close[0]}?' if close else 'leave it out'}"


def _names(schema: dict[str, Any]) -> Iterator[str]:
    yield from schema.get("properties", ())
    for inner in schema.get("$defs", {}).values():
        yield from _names(inner)


def _printable(name: str) -> str:
    """A name may be anything, such as spaces alone."""
    return shown(name) or repr(name)
