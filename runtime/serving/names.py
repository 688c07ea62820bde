"""The ids of requests, by which they can be cancelled: their clients may choose them."""

import re
import secrets

from fastapi import Request

from runtime.serving.errors import Refusal

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
NAME_HEADER = "X-Request-Id"


def new_name() -> str:
    return f"gen_{secrets.token_hex(12)}"


def chosen_name(request: Request) -> str | None:
    """Raises: Refusal: it is not such a name."""
    name = request.headers.get(NAME_HEADER)
    if name is not None and not NAME.fullmatch(name):
        raise Refusal(400, "bad_id", f"{NAME_HEADER} may have 1 to 64 letters, digits, - and _", NAME_HEADER)
    return name
