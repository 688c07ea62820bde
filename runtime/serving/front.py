"""What stands before many replicas of a server: it waits for one that has room, and asks again where one dies.

A picture depends on its request alone, so a replica that dies loses none: another draws the same, and a stream goes on
behind the last event that its client has.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from runtime.serving.bodies import GONE, Gone, read_body, unless_left
from runtime.serving.call import Call
from runtime.serving.errors import Refusal, busy, cancelled, failed, out_of_time
from runtime.serving.events import HEARTBEAT_COMMENT, error_event
from runtime.serving.metrics import FrontMetrics
from runtime.serving.names import chosen_name, new_name
from runtime.serving.settings import Settings

MOST_TRIES = 3  # of a request whose replicas die: it may be what kills them
AGAIN_SECONDS = 0.2  # after which a place is asked for again
LOOK_SECONDS = 10.0  # for all but drawing and planning
REMEMBERED = 0.9  # of the seconds that answers took before
GENERATIONS = "/v1/images/generations"

log = logging.getLogger("realcompo.serving")


class Lost(Exception):
    """The replica that had the request is no more."""


class Crowded(Exception):
    """No replica has room, and as many as may wait for one do."""


Ask = Callable[[Call], AsyncIterator[Message]]  # raises Lost, Crowded


class Front:
    """An ASGI application that hands requests to replicas of `app.create_app`'s.

    Args:
        ask: hands a request to a replica, as soon as one has room, and yields the ASGI messages of its answer.
        cancel: cancels a request by its id, wherever it is; whether there was one.
        gather: the metrics of all replicas.
    """

    def __init__(
        self,
        ask: Ask,
        cancel: Callable[[str], Awaitable[bool]],
        gather: Callable[[], Awaitable[bytes]],
        settings: Settings,
        metrics: FrontMetrics,
    ) -> None:
        self._ask, self._cancel, self._gather = ask, cancel, gather
        self._settings, self._metrics = settings, metrics
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._cancelled = set[str]()
        self._seconds = 0.0  # that requests to draw took lately

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        request, out = Request(scope, receive), _Outgoing(send)
        try:
            await self._respond(request, out)
        except Refusal as refusal:
            self._metrics.refusals.labels(refusal.code).inc()
            await out.refuse(refusal, request)
        except Gone:
            await out.respond(Response(status_code=GONE), request)

    def drop(self, name: str) -> bool:
        """Cancel a request that this front has; whether it has it."""
        task = self._under_way.get(name)
        if task is None:
            return False
        self._cancelled.add(name)
        task.cancel()
        return True

    async def _respond(self, request: Request, out: "_Outgoing") -> None:
        path, method = request.scope["path"], request.scope["method"]
        if path == "/metrics" and method == "GET":
            await out.respond(Response(await self._gather(), media_type="text/plain; version=0.0.4"), request)
        elif path.startswith(f"{GENERATIONS}/") and method == "DELETE":
            await out.respond(await self._delete(path.removeprefix(f"{GENERATIONS}/")), request)
        else:
            body = await read_body(request, self._settings.max_body_bytes) if method == "POST" else b""
            await unless_left(request, self._hand_over(Call.of(request, body, self._name(request)), out))

    async def _delete(self, name: str) -> Response:
        if not await self._cancel(name):
            raise Refusal(404, "not_found", "no request of this id is waiting or being drawn")
        return JSONResponse({"id": name, "cancelled": True})

    def _name(self, request: Request) -> str:
        name = chosen_name(request) or new_name()
        if name in self._under_way:
            raise Refusal(409, "id_in_use", f"a request of the id {name} is under way; choose another")
        return name

    async def _hand_over(self, call: Call, out: "_Outgoing") -> None:
        """Raises: Refusal: cancelled, out of time, or no place is left."""
        draws, started = call.path == GENERATIONS, time.monotonic()
        self._under_way[call.name] = task = asyncio.ensure_future(self._ask_until_answered(call, out))
        limit = self._settings.time_limit_seconds if call.method == "POST" else LOOK_SECONDS
        try:
            async with asyncio.timeout(limit):
                await task
        except TimeoutError as error:
            raise self._late(call) from error
        except asyncio.CancelledError:
            if call.name in self._cancelled:
                raise cancelled() from None
            raise
        finally:
            task.cancel()
            self._cancelled.discard(call.name)
            del self._under_way[call.name]
        if draws:
            self._seconds = REMEMBERED * self._seconds + (1 - REMEMBERED) * (time.monotonic() - started)

    def _late(self, call: Call) -> Refusal:
        if call.method == "POST":
            return out_of_time(self._settings.time_limit)
        return Refusal(503, "no_replica", f"no replica answered within {LOOK_SECONDS:g} s")

    async def _ask_until_answered(self, call: Call, out: "_Outgoing") -> None:
        """Raises: Refusal: no place is left, or the replicas that tried have died."""
        lost = 0
        while lost < MOST_TRIES:
            try:
                await out.pass_on(self._ask(call))
                return
            except Crowded as crowded:
                if not lost:
                    raise busy(max(round(self._seconds), 1)) from crowded
                await asyncio.sleep(AGAIN_SECONDS)  # it was accepted: it waits until it is out of time
            except Lost:
                lost += 1
                self._metrics.lost.inc()
                log.warning("a replica died with the request %s", call.name)
        raise failed()


class _Outgoing:
    """What a client has of its answer."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._sent = 0  # messages, but for heartbeats
        self._streams = False  # whether the answer has no length that would be known beforehand

    async def pass_on(self, messages: AsyncIterator[Message]) -> None:
        """Send what the client does not have yet of an answer, of which a replica that died may have sent a part."""
        seen, start = 0, list[Message]()
        async for message in messages:
            if message.get("body") == HEARTBEAT_COMMENT:
                await self._send(message)
                continue
            seen += 1
            if seen <= self._sent:
                continue
            if message["type"] == "http.response.start" and _has_length(message):
                start.append(message)  # goes with the body: another replica's may have another length
                continue
            for one in (*start, message):
                await self._send(one)
            start.clear()
            self._sent, self._streams = seen, self._streams or message["type"] == "http.response.start"

    async def refuse(self, refusal: Refusal, request: Request) -> None:
        if not self._sent:
            await self.respond(JSONResponse(refusal.body(), refusal.status, headers=dict(refusal.headers)), request)
        elif self._streams:
            await self._send({"type": "http.response.body", "body": error_event(refusal), "more_body": False})

    async def respond(self, response: Response, request: Request) -> None:
        if not self._sent:
            await response(request.scope, request.receive, self._send)


async def _live(receive: Receive, send: Send) -> None:
    """There is nothing to start and nothing to close."""
    for phase in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{phase}.complete"})


def _has_length(start: Message) -> bool:
    return any(name.lower() == b"content-length" for name, _ in start["headers"])
