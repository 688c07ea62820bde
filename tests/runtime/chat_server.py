"""A real HTTP server on localhost that answers chat requests as it is told."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any


@dataclass(frozen=True)
class Reply:
    """What to answer: after `delay` seconds, or a byte every `drip` seconds."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drip: float = 0.0
    missing: int = 0  # bytes that are announced but never sent


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def messages(self) -> list[dict[str, str]]:
        return self.body["messages"]


def says(content: str | None, refusal: str | None = None) -> Reply:
    """A chat completion, as OpenAI writes it."""
    message = {"role": "assistant", "content": content, "refusal": refusal}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "tiny", "choices": [choice]}
    return Reply(json.dumps(body).encode())


def fails(status: int, message: str = "no") -> Reply:
    """An error, as OpenAI writes it, that may be retried at once."""
    return Reply(json.dumps({"error": {"message": message, "code": None}}).encode(), status, {"retry-after-ms": "1"})


class ChatServer(ThreadingHTTPServer):
    """Gives the replies in turn, the last one for ever after, and keeps the requests."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, replies: tuple[Reply, ...]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies, self.requests, self.asked = replies, list[Request](), Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, *_: object) -> None:
        """The client hung up: that is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        requests, replies = self.server.requests, self.server.replies
        requests.append(Request(self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        self.server.asked.set()
        self._reply(replies[min(len(requests), len(replies)) - 1])

    def _reply(self, reply: Reply) -> None:
        time.sleep(reply.delay)
        self.send_response(reply.status)
        headers = {"content-type": "application/json", "content-length": str(len(reply.body) + reply.missing)}
        for name, value in (headers | reply.headers).items():
            self.send_header(name, value)
        self.end_headers()
        step = 1 if reply.drip else len(reply.body)
        for i in range(0, len(reply.body), step):
            time.sleep(reply.drip)
            self.wfile.write(reply.body[i : i + step])

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def chat_server(*replies: Reply) -> Iterator[ChatServer]:
    with ChatServer(replies) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
