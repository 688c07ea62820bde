"""Clients: those that come at a rate whatever the server does, and those that ask again once they are answered."""

import base64
import hashlib
import json
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from io import BytesIO
from threading import local
from typing import Any, Protocol

from PIL import Image

IDLE = 20.0  # seconds after which a kept connection is opened anew: the server closes it after 30
CLIENTS = 256  # at most at the same time; each has a connection that it keeps
LOST = 0  # the status of a request whose connection broke
HEADERS = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Reply:
    seed: int
    status: int
    seconds: float  # for the client
    ended: float = 0.0  # on the clock of `time.perf_counter`
    run: float = 0.0  # seconds of the run, as the server says
    batch: int = 0
    digest: str = ""  # of the pixels


class Server(Protocol):
    def connect(self) -> HTTPConnection: ...


class Clients:
    """Threads that ask for one picture at a time, of one of some seeds."""

    def __init__(self, server: Server, body: dict[str, Any], seeds: Sequence[int]) -> None:
        self._server, self._body, self._seeds = server, body, seeds
        self._own = local()

    def ask(self, k: int) -> Reply:
        """The k-th request's picture."""
        seed = self._seeds[k % len(self._seeds)]
        started = time.perf_counter()
        try:
            status, text = self._post({**self._body, "seed": seed})
        except (OSError, HTTPException):
            self._own.connection = None
            return Reply(seed, LOST, time.perf_counter() - started)
        ended = self._own.used = time.perf_counter()
        if status != 200:
            return Reply(seed, status, ended - started, ended)
        answer = json.loads(text)
        run = sum(answer["seconds"].values())
        return Reply(
            seed, status, ended - started, ended, run, answer["batch"], digest_of(answer["data"][0]["b64_json"])
        )

    def in_turns(self, clients: int, seconds: float) -> list[Reply]:
        """Each client asks again once it is answered; replies of requests that were sent within that time."""
        until = time.perf_counter() + seconds

        def repeat(client: int) -> list[Reply]:
            found: list[Reply] = []
            while time.perf_counter() < until:
                found.append(self.ask(client + clients * len(found)))
            return found

        with ThreadPoolExecutor(clients) as threads:
            return [reply for replies in threads.map(repeat, range(clients)) for reply in replies]

    def at_rate(self, rate: float, seconds: float, look: Callable[[], None] = lambda: None) -> list[Reply]:
        """Poisson arrivals; `look` is called about twice a second."""
        arrivals, at = random.Random(0), 0.0
        started, looked = time.perf_counter(), 0.0
        with ThreadPoolExecutor(CLIENTS) as threads:
            asked: list[Future[Reply]] = []
            while (at := at + arrivals.expovariate(rate)) < seconds:
                time.sleep(max(started + at - time.perf_counter(), 0))
                asked.append(threads.submit(self.ask, len(asked)))
                if at - looked > 0.5:
                    looked = at
                    look()
            return [one.result() for one in asked]

    def _post(self, body: dict[str, Any]) -> tuple[int, bytes]:
        connection: HTTPConnection | None = getattr(self._own, "connection", None)
        if connection is None or time.perf_counter() - self._own.used > IDLE:
            connection = self._own.connection = self._server.connect()
        connection.request("POST", "/v1/images/generations", json.dumps(body), HEADERS)
        response = connection.getresponse()
        return response.status, response.read()


def digest_of(encoded: str) -> str:
    return digest(Image.open(BytesIO(base64.b64decode(encoded))))


def digest(image: Image.Image) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()
