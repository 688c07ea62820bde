"""What a file leaves open, and the command that converts it: choices are tried until one does."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from runtime.errors import FieldError, RealCompoError
from runtime.layouts.formats.kind import Request

Attempt = Callable[[Request], object]  # to convert a file as it is asked for


class Unsaid(FieldError):
    """A file does not say something, or plainly means another: `candidates` are choices that say it, likeliest first.

    The message ends where the command with one of them is to follow.
    """

    def __init__(self, field: str, problem: str, candidates: Iterable[Mapping[str, Any]]) -> None:
        super().__init__(field, problem)
        self.candidates = candidates


def working(request: Request, attempt: Attempt) -> Request:
    """The request with all that it leaves open, so that the file converts.

    Raises:
        RealCompoError: no choice helps; what is wrong with the likeliest.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            attempt(request)
    except Unsaid as unsaid:
        return answered(unsaid, request, attempt)
    return request


def answered(unsaid: Unsaid, request: Request, attempt: Attempt) -> Request:
    """As `working`, of a request that was refused."""
    problem: RealCompoError | None = None
    for choices in unsaid.candidates:
        try:
            return working(request.choosing(**choices), attempt)
        except RealCompoError as error:
            problem = problem or error
    raise problem or unsaid


def placed(error: RealCompoError) -> str:
    """A problem with the field that has it."""
    return ": ".join(filter(None, (getattr(error, "field", ""), f"{error}")))
