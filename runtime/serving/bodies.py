"""Reading a request's body, no longer and no larger than is allowed; and whether its client is still there."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from runtime.serving.errors import Refusal

T = TypeVar("T")

GONE = 499  # the status of an answer that nobody reads
LONGEST = 30.0  # seconds for a body to come
DISCARDED = 32  # times the limit that is read and thrown away, so that the client hears why


class Gone(Exception):
    """The client has left."""


async def unless_left(request: Request, result: Awaitable[T]) -> T:
    """Raises: Gone: the client hung up first."""
    waiting, leaving = asyncio.ensure_future(result), asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait((waiting, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise Gone
        return waiting.result()
    finally:
        waiting.cancel()
        leaving.cancel()


async def read_body(request: Request, most: int) -> bytes:
    """Raises: Refusal: no JSON, too large or too slow; Gone."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "no_json", "send a body of JSON, with 'Content-Type: application/json'")
    try:
        async with asyncio.timeout(LONGEST):
            return await _read(request, most)
    except TimeoutError as error:
        raise Refusal(408, "slow_body", f"the body did not come within {LONGEST:g} s") from error
    except ClientDisconnect as error:
        raise Gone from error


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _read(request: Request, most: int) -> bytes:
    parts, count = list[bytes](), 0
    async for part in request.stream():
        count += len(part)
        if count <= most:
            parts.append(part)
        else:
            parts.clear()
        if count > DISCARDED * most:
            break
    if count > most:
        closing = {"Connection": "close"} if count > DISCARDED * most else {}
        raise Refusal(413, "large_body", f"the body has over {most} bytes, this server's limit", headers=closing)
    return b"".join(parts)
