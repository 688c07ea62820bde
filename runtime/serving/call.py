"""A request as a value, which travels to another process, and an application's answer to it, message by message."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Scope

from runtime.serving.names import NAME_HEADER


@dataclass(frozen=True)
class Call:
    """A request over HTTP, its body read."""

    method: str
    path: str
    query: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    name: str  # its id

    @classmethod
    def of(cls, request: Request, body: bytes, name: str) -> "Call":
        scope, header = request.scope, NAME_HEADER.lower().encode()
        headers = (*(one for one in scope["headers"] if one[0] != header), (header, name.encode()))
        return cls(scope["method"], scope["path"], scope["query_string"], headers, body, name)

    def scope(self) -> Scope:
        """As the ASGI specification has it."""
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": self.query,
            "root_path": "",
            "headers": list(self.headers),
            "client": None,
            "server": None,
        }


async def answer(app: ASGIApp, call: Call) -> AsyncIterator[Message]:
    """What an ASGI application says to a request. It is cancelled if the iteration ends early: its client has left.

    Raises:
        Exception: as the application does.
    """
    messages = asyncio.Queue[Message | None]()
    body: list[Message] = [{"type": "http.request", "body": call.body, "more_body": False}]

    async def receive() -> Message:
        return body.pop() if body else await asyncio.Future[Message]()  # that never comes

    working = asyncio.ensure_future(app(call.scope(), receive, messages.put))
    working.add_done_callback(lambda _: messages.put_nowait(None))
    try:
        while (message := await messages.get()) is not None:
            yield message
        await working
    finally:
        working.cancel()
