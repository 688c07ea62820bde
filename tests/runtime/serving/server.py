"""A real server in a process of its own, and a client that speaks HTTP over a socket."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PATIENCE = 120  # seconds until something that should have come about is said to hang
GENERATIONS = "/v1/images/generations"
Body = dict[str, Any] | bytes


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def body(self) -> dict[str, Any]:
        return json.loads(self.text)

    @property
    def error(self) -> dict[str, Any]:
        return self.body["error"]

    def pixels(self, k: int = 0) -> np.ndarray:
        return pixels(self.body["data"][k]["b64_json"])


def pixels(encoded: str) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(base64.b64decode(encoded))))


@dataclass
class Server:
    process: subprocess.Popen[str]
    port: int
    headers: dict[str, str] = field(default_factory=dict)

    def connect(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def ask(self, method: str, path: str, body: Body | None = None, **headers: str) -> Answer:
        connection = self.connect()
        try:
            send(connection, method, path, body, self.headers | _named(headers))
            return _read(connection.getresponse())
        finally:
            connection.close()

    def draw(self, body: Body, **headers: str) -> Answer:
        return self.ask("POST", GENERATIONS, body, **headers)

    def start(self, body: Body, **headers: str) -> HTTPConnection:
        """Ask, and do not wait for the answer."""
        connection = self.connect()
        send(connection, "POST", GENERATIONS, body, self.headers | _named(headers))
        return connection

    def events(self, body: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        answer = self.draw({**body, "stream": True})
        assert answer.headers["content-type"].startswith("text/event-stream"), answer
        return read_events(answer.text)

    def metric(self, name: str) -> float:
        """A sample's value, 0 if there is none yet; the name as Prometheus writes it, labels included."""
        lines = self.ask("GET", "/metrics").text.splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), 0.0)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


def finish(connection: HTTPConnection) -> Answer:
    try:
        return _read(connection.getresponse())
    finally:
        connection.close()


def send(connection: HTTPConnection, method: str, path: str, body: Body | None, headers: dict[str, str]) -> None:
    encoded = json.dumps(body).encode() if isinstance(body, dict) else body
    kind = {"Content-Type": "application/json"} if body is not None else {}
    connection.request(method, path, encoded, kind | headers)


def read_events(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Server-sent events as the standard says: fields in lines, a blank line after each event."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append((fields["event"], json.loads(fields["data"])))
    return found


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def _read(response: HTTPResponse) -> Answer:
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, response.read().decode())


@contextmanager
def serving(bundle: Path, *options: str) -> Iterator[Server]:
    command = [sys.executable, "-m", "runtime", "serve", str(bundle), "--port", "0", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            server = Server(process, int(line.split(" (")[0].rpartition(":")[2]))
            until(lambda: server.ask("GET", "/v2/health/ready").status == 200)
            yield server
        finally:
            process.kill()


def until(true: Callable[[], bool]) -> None:
    for _ in range(PATIENCE * 100):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come about")


def png(array: np.ndarray) -> str:
    """In base64."""
    buffer = BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()
