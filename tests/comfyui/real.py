"""A real ComfyUI in a process of its own, spoken to as its editor does."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import create_server
from typing import Any
from urllib.request import Request, urlopen

from websocket import WebSocket, create_connection

from export.checkpoints.folders import ROOT

PATIENCE = 600  # seconds
OPTIONS = ("--cpu", "--listen", "127.0.0.1", "--disable-api-nodes", "--disable-auto-launch")
CLIENT = "test"
ENDS = ("execution_success", "execution_interrupted", "execution_error")


@dataclass(frozen=True)
class ComfyUI:
    port: int
    output: Path

    def ask(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": "application/json"})
        with urlopen(request, timeout=PATIENCE) as answer:
            return json.loads(answer.read() or b"null")

    @contextmanager
    def listen(self) -> Iterator[WebSocket]:
        with closing(create_connection(f"ws://127.0.0.1:{self.port}/ws?clientId={CLIENT}", timeout=PATIENCE)) as socket:
            yield socket

    def queue(self, workflow: dict[str, Any]) -> str:
        return self.ask("/prompt", {"prompt": workflow, "client_id": CLIENT})["prompt_id"]

    def events(self, socket: WebSocket) -> Iterator[tuple[str, Any]]:
        """A run's messages, up to the one that ends it."""
        while True:
            message = socket.recv()
            if isinstance(message, bytes):
                yield "preview", message
                continue
            event = json.loads(message)
            yield event["type"], event["data"]
            if event["type"] in ENDS:
                return


@contextmanager
def running(python: str, folder: Path, base: Path, bundle: Path) -> Iterator[ComfyUI]:
    """With this repository's pack, its `runtime`, and one bundle called tabletop."""
    for name in ("custom_nodes", "models/realcompo", "input", "output", "temp", "user"):
        (base / name).mkdir(parents=True)
    (base / "custom_nodes" / "realcompo").symlink_to(ROOT / "comfyui")
    (base / "models" / "realcompo" / "tabletop").symlink_to(bundle)
    found = ComfyUI(_free_port(), base / "output")
    where = ("--port", f"{found.port}", "--base-directory", f"{base}", "--database-url", "sqlite:///:memory:")
    environment = os.environ | {"PYTHONPATH": f"{ROOT}", "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    with (base / "log").open("w") as log:
        command = [python, "main.py", *OPTIONS, *where]
        with subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log) as process:
            try:
                _wait(found, process)
                yield found
            finally:
                process.kill()


def _wait(comfyui: ComfyUI, process: subprocess.Popen[bytes]) -> None:
    for _ in range(PATIENCE):
        assert process.poll() is None, "ComfyUI ended; see its log"
        try:
            comfyui.ask("/queue")
            return
        except OSError:
            time.sleep(1)
    raise AssertionError("ComfyUI did not answer")


def _free_port() -> int:
    with create_server(("127.0.0.1", 0)) as socket:
        return socket.getsockname()[1]
