"""What a server says no with: a status, and one line of JSON in the shape of OpenAI's errors."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runtime.errors import FieldError, RealCompoError
from runtime.messages import one_line

FIELDS = {"steps": "num_inference_steps", "num_images": "n"}  # arguments of the library, as requests name them


@dataclass
class Refusal(Exception):
    """A request that is not carried out.

    Args:
        code: for programs; also the `reason` of the metric.
        param: the field of the request.
    """

    status: int
    code: str
    message: str
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        message = one_line(self.message)
        return {"error": {"message": message, "type": kind, "param": self.param, "code": self.code}}


def bad_field(error: RealCompoError, parent: str = "") -> Refusal:
    """A 400 of what the library or the contract says of a value; fields stand relative to the parent."""
    message, name = str(error).removeprefix("the file: "), getattr(error, "field", "")
    if not name and (argument := re.match(r"(\w+)=", message)):
        field = FIELDS.get(argument[1], argument[1])
        return Refusal(400, "bad_request", field + message.removeprefix(argument[1]), field)
    if not isinstance(error, FieldError):
        return Refusal(400, "bad_request", message)
    path, message = ".".join(filter(None, (parent, name))), message.removeprefix(f"{name}: ")
    prefix = "" if not path or message.startswith(f"{path}=") else f"{path}: "
    return Refusal(400, "bad_request", f"{prefix}{message}", path or None)


def busy(wait: int) -> Refusal:
    message = f"the queue is full; try again in {wait} s"
    return Refusal(429, "queue_full", message, headers={"Retry-After": str(wait)})


def stopping() -> Refusal:
    return Refusal(503, "stopping", "the server is stopping; ask another", headers={"Connection": "close"})


def out_of_time(limit: str) -> Refusal:
    message = f"the picture was not ready within the server's time limit of {limit}; ask for fewer steps or images"
    return Refusal(504, "time_limit", message)


def cancelled() -> Refusal:
    return Refusal(409, "cancelled", "the request was cancelled")


def failed() -> Refusal:
    return Refusal(500, "failed", "the server failed to draw this; its log says why")
