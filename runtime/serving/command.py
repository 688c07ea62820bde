"""`python -m runtime serve`: open a bundle, listen, and stop in order."""

import logging
import socket
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from runtime import RealCompo, RealCompoError
from runtime.knobs import make
from runtime.serving.app import create_app
from runtime.serving.guard import Guard, is_local, read_keys
from runtime.serving.service import Service
from runtime.serving.settings import Settings

MOST_CONNECTIONS = 800  # below the 1024 open files that systems allow by default
BACKLOG = 1024


def serve(
    bundle: Path,
    host: str,
    port: int,
    api_key_file: Path | None,
    backend: str,
    device: str,
    second_stream: bool,
    modes: Sequence[str] | None,
    settings: Mapping[str, Any],
) -> None:
    """Answer until SIGTERM or Ctrl-C; then finish what was accepted.

    Raises:
        RealCompoError: settings, a key file, a bundle or an address that cannot be used.
    """
    chosen, keys = make(Settings, settings), read_keys(api_key_file)
    if not keys and not is_local(host):
        raise RealCompoError(f"--host {host} lets other machines in; give --api-key-file, or use 127.0.0.1")
    with _listen(host, port) as listener:
        pipe = RealCompo.load(bundle, backend=backend, device=device, second_stream=second_stream, modes=modes)
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
        warnings.simplefilter("ignore", UserWarning)  # answers have them; Python would remember each text for ever
        service = Service(pipe, chosen)
        _say(f"{bundle}: http://{_shown(listener)} {_about_keys(keys)}")
        _Server(service, Guard(create_app(service), keys)).run([listener])
        _say("stopped")


class _Server(uvicorn.Server):
    """Stops in two steps: new requests are refused while accepted ones are drawn, and then the socket is closed."""

    def __init__(self, service: Service, app: Any) -> None:
        config = uvicorn.Config(
            app,
            loop="asyncio",  # not what happens to be installed beside: Ray brings others
            http="h11",
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_keep_alive=30,
        )
        super().__init__(config)
        self._service = service
        self._asked_to_stop = 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The second signal does not wait."""
        self._asked_to_stop += 1
        self._service.stop()
        if self._asked_to_stop > 1:
            self.should_exit = self.force_exit = True

    async def on_tick(self, counter: int) -> bool:
        if self._asked_to_stop and self._service.is_idle:
            self.should_exit = True
        return await super().on_tick(counter)


def _listen(host: str, port: int) -> socket.socket:
    """Before the bundle is opened, which may take long."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        raise RealCompoError(f"cannot listen on {host}, port {port}: {error}") from error


def _about_keys(keys: list[str]) -> str:
    return f"({len(keys)} API keys)" if keys else "(no API key: this machine alone may ask)"


def _shown(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _say(line: str) -> None:
    print(line, flush=True)
