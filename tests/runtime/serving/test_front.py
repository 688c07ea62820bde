"""The front before replicas that die, are full or slow: what a client gets, message by message, and what it is asked.

Replicas are scripts here; `test_ray.py` has real ones, of which one is killed.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.types import ASGIApp, Message
from uvicorn.config import Config
from uvicorn.lifespan.on import LifespanOn

from runtime.serving.call import Call, answer
from runtime.serving.events import HEARTBEAT_COMMENT
from runtime.serving.front import GENERATIONS, MOST_TRIES, Crowded, Front, Lost
from runtime.serving.guard import Guard
from runtime.serving.metrics import FrontMetrics, gather
from runtime.serving.settings import Settings

EVENTS = [f"event: a\ndata: {k}\n\n".encode() for k in range(4)]


def server() -> FastAPI:
    """An application of a few routes, to stand for a replica's."""
    app = FastAPI()

    @app.post(GENERATIONS)
    async def draw(request: Request) -> Any:
        asked = await request.json()
        if asked.get("stream"):
            return StreamingResponse(_events(), media_type="text/event-stream")
        return JSONResponse({"asked": asked, "name": request.headers["x-request-id"], "length": "x" * asked["seed"]})

    @app.get("/v1/models")
    async def models() -> Any:
        return {"data": []}

    return app


async def _events() -> AsyncIterator[bytes]:
    for event in EVENTS:
        yield HEARTBEAT_COMMENT
        yield event


class Replicas:
    """Hands each request to an application; the first ones die after so many messages as `deaths` says."""

    def __init__(self, deaths: Sequence[int] = (), full: bool = False, hang: bool = False, crowds: int = 0) -> None:
        self.asked: list[Call] = []
        self.left = 0
        self._app, self._deaths, self._full, self._hang = server(), list(deaths), full, hang
        self._crowds = crowds  # asked so often after the first death, there is no room

    async def __call__(self, call: Call) -> AsyncIterator[Message]:
        if self._full:
            raise Crowded
        if self.asked and self._crowds:
            self._crowds -= 1
            raise Crowded
        self.asked.append(call)
        lives = self._deaths.pop(0) if self._deaths else None
        try:
            if self._hang:
                await asyncio.Event().wait()
            sent = 0
            async for message in answer(self._app, call):
                if sent == lives:
                    raise Lost
                yield message
                sent += 1
        finally:
            self.left += 1


def front(replicas: Replicas, **settings: Any) -> Front:
    made: list[Front] = []

    async def cancel(name: str) -> bool:
        return made[0].drop(name)

    async def metrics() -> bytes:
        return b""

    made.append(Front(replicas, cancel, metrics, Settings(**settings), FrontMetrics()))
    return made[0]


async def ask(
    app: ASGIApp, method: str, path: str, body: Any = None, leave: asyncio.Event | None = None, name: str | None = None
) -> list[Message]:
    """The ASGI messages of an answer; the client leaves when `leave` is set."""
    encoded = json.dumps(body).encode() if body is not None else b""
    arriving: list[Message] = [{"type": "http.request", "body": encoded, "more_body": False}]
    sent: list[Message] = []

    async def receive() -> Message:
        if arriving:
            return arriving.pop()
        await (leave or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"host", b"localhost")]
    headers += [(b"x-request-id", name.encode())] if name else []
    scope = Call(method, path, b"", tuple(headers), b"", "").scope()
    await app(scope, receive, send)
    return sent


def draw(replicas: Replicas, body: Any, **settings: Any) -> list[Message]:
    return asyncio.run(ask(front(replicas, **settings), "POST", GENERATIONS, body))


def read(messages: list[Message]) -> tuple[int, dict[str, Any]]:
    start, *parts = messages
    text = b"".join(part["body"] for part in parts)
    lengths = [int(value) for name, value in start["headers"] if name == b"content-length"]
    assert lengths == [len(text)]
    return start["status"], json.loads(text)


@pytest.mark.parametrize("deaths", [[], [0], [1], [0, 1]])
def test_an_answer_comes_whole_whenever_replicas_die(deaths: list[int]) -> None:
    replicas = Replicas(deaths)
    status, body = read(draw(replicas, {"seed": 3}))
    assert status == 200 and body["asked"] == {"seed": 3}
    assert len(replicas.asked) == replicas.left == len(deaths) + 1
    assert {call.name for call in replicas.asked} == {body["name"]}  # the same request, by its id


@pytest.mark.parametrize("deaths", [[], [0], [1], [2], [3], [4, 7], [8]])
def test_a_stream_goes_on_behind_the_last_event(deaths: list[int]) -> None:
    start, *parts = draw(Replicas(deaths), {"stream": True})
    assert start["type"] == "http.response.start"
    assert [part["body"] for part in parts if part["body"] not in (HEARTBEAT_COMMENT, b"")] == EVENTS
    assert [part.get("more_body", False) for part in parts] == [True] * (len(parts) - 1) + [False]


def test_a_request_that_kills_its_replicas_is_given_up() -> None:
    replicas = Replicas([0] * 10)
    status, body = read(draw(replicas, {"seed": 3}))
    assert status == 500 and body["error"]["code"] == "failed" and len(replicas.asked) == MOST_TRIES
    *_, last = draw(Replicas([2, 2, 2, 2]), {"stream": True})
    assert last["body"].startswith(b"event: error\n") and not last["more_body"]


def test_what_was_accepted_is_not_refused_when_its_replica_dies() -> None:
    replicas = Replicas([1], crowds=2)
    assert read(draw(replicas, {"seed": 3}))[0] == 200 and len(replicas.asked) == 2
    assert read(draw(Replicas([1], crowds=10**6), {"seed": 3}, time_limit="500ms"))[0] == 504


def test_full_replicas_say_when_to_come_back() -> None:
    start, *_ = messages = draw(Replicas(full=True), {"seed": 1})
    assert read(messages)[1]["error"]["code"] == "queue_full"
    assert start["status"] == 429 and dict(start["headers"])[b"retry-after"] == b"1"


def test_who_waits_too_long_is_told_and_forgotten() -> None:
    replicas = Replicas(hang=True)
    status, body = read(draw(replicas, {"seed": 1}, time_limit="50ms"))
    assert status == 504 and body["error"]["code"] == "time_limit" and replicas.left == 1


def test_a_body_that_is_too_large_reaches_no_replica() -> None:
    replicas = Replicas()
    status, _ = read(draw(replicas, {"prompt": "x" * 2000}, max_body="1kB"))
    assert status == 413 and not replicas.asked


async def _until(true: Callable[[], Any]) -> None:
    while not true():
        await asyncio.sleep(0.001)


def test_delete_cancels_wherever_the_request_is() -> None:
    replicas = Replicas(hang=True)
    app = front(replicas)

    async def run() -> tuple[list[Message], ...]:
        drawing = asyncio.ensure_future(ask(app, "POST", GENERATIONS, {"seed": 1}, name="mine"))
        await _until(lambda: replicas.asked)
        again = await ask(app, "POST", GENERATIONS, {"seed": 1}, name="mine")
        deleted = await ask(app, "DELETE", f"{GENERATIONS}/mine")
        return again, deleted, await drawing, await ask(app, "DELETE", f"{GENERATIONS}/mine")

    again, deleted, drawn, gone = asyncio.run(run())
    assert read(again)[0] == 409 and read(again)[1]["error"]["code"] == "id_in_use"
    assert read(deleted) == (200, {"id": "mine", "cancelled": True})
    assert read(drawn)[0] == 409 and read(drawn)[1]["error"]["code"] == "cancelled"
    assert read(gone)[0] == 404 and replicas.left == 1


def test_a_client_that_leaves_is_asked_for_no_more() -> None:
    replicas = Replicas(hang=True)

    async def run() -> list[Message]:
        leave = asyncio.Event()
        drawing = asyncio.ensure_future(ask(front(replicas), "POST", GENERATIONS, {"seed": 1}, leave))
        await _until(lambda: replicas.asked)
        leave.set()
        sent = await drawing
        await _until(lambda: replicas.left)
        return sent

    assert asyncio.run(run())[0]["status"] == 499


def test_other_routes_are_any_replicas() -> None:
    assert read(asyncio.run(ask(front(Replicas([0])), "GET", "/v1/models"))) == (200, {"data": []})


@pytest.mark.parametrize(
    ("client", "keys", "status"), [("127.0.0.1", (), 200), ("192.0.2.7", (), 403), ("192.0.2.7", ("key",), 401)]
)
def test_without_keys_this_machine_alone_may_ask(client: str, keys: tuple[str, ...], status: int) -> None:
    """Whatever a client elsewhere says that its host is."""

    def from_there(app: ASGIApp) -> ASGIApp:
        async def moved(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "client": (client, 5)}, receive, send)

        return moved

    app = from_there(Guard(front(Replicas()), keys))
    assert asyncio.run(ask(app, "GET", "/v1/models"))[0]["status"] == status


def test_gathered_metrics_are_told_apart_by_their_replica() -> None:
    one, other = FrontMetrics(), FrontMetrics()
    one.lost.inc(2)
    other.refusals.labels("queue_full").inc()
    lines = gather([("a", one.text()), ("b", other.text())]).decode().splitlines()
    assert 'realcompo_lost_total{replica="a"} 2.0' in lines and 'realcompo_lost_total{replica="b"} 0.0' in lines
    assert 'realcompo_front_refusals_total{reason="queue_full",replica="b"} 1.0' in lines
    assert sum(line.startswith("# HELP realcompo_lost_total ") for line in lines) == 1


def test_an_application_is_cancelled_when_nobody_listens() -> None:
    ended: list[str] = []

    async def app(scope: Any, receive: Callable[[], Awaitable[Message]], send: Any) -> None:
        assert (await receive())["body"] == b"asked"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            await receive()
        finally:
            ended.append(scope["path"])

    async def run() -> None:
        messages = answer(app, Call("POST", "/here", b"", (), b"asked", ""))
        assert (await anext(messages))["status"] == 200
        await messages.aclose()
        await asyncio.sleep(0)

    asyncio.run(run())
    assert ended == ["/here"]


def test_one_server_takes_no_ray() -> None:
    check = "import sys, runtime.serving.command, runtime.serving.front; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_server_may_start_and_stop_it() -> None:
    """As the ASGI specification has it: uvicorn's own lifespan is what Ray runs."""
    config = Config(Guard(front(Replicas())), lifespan="on", log_level="critical")

    async def run() -> bool:
        config.load()
        lifespan = LifespanOn(config)
        await lifespan.startup()
        await lifespan.shutdown()
        return lifespan.should_exit

    assert asyncio.run(run()) is False
