"""The server, in a process of its own as a product has it, and what the system says of that process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

from runtime.errors import RealCompoError

PATIENCE = 300.0  # seconds for a start, an answer or an end
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Served:
    process: subprocess.Popen[str]
    port: int

    def connect(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def get(self, path: str) -> tuple[int, str]:
        connection = self.connect()
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def metric(self, name: str) -> float:
        lines = self.get("/metrics")[1].splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), 0.0)

    @property
    def resident(self) -> int:
        """Bytes of memory."""
        return int(self._proc("statm").split()[1]) * PAGE

    @property
    def threads(self) -> int:
        line = next(line for line in self._proc("status").splitlines() if line.startswith("Threads:"))
        return int(line.split()[1])

    def stop(self) -> int:
        """The exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def _proc(self, name: str) -> str:
        return Path(f"/proc/{self.process.pid}/{name}").read_text()


@contextmanager
def served(bundle: Path, max_queue: int, max_batch: int, threads: int) -> Iterator[Served]:
    """A server of the bundle, ready.

    Raises:
        RealCompoError: it does not start.
    """
    options = ["--port", "0", "--max-queue", str(max_queue), "--max-batch", str(max_batch)]
    command = [sys.executable, "-m", "runtime", "serve", str(bundle), *options]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            if not line:
                raise RealCompoError(f"{' '.join(command)} does not start; try it by itself")
            server = Served(process, int(line.split(" (")[0].rpartition(":")[2]))
            _wait_until_ready(server)
            yield server
        finally:
            process.kill()


def _wait_until_ready(server: Served) -> None:
    until = time.monotonic() + PATIENCE
    while server.get("/v2/health/ready")[0] != 200:
        if time.monotonic() > until:
            raise RealCompoError(f"the server was not ready after {PATIENCE:g} s")
        time.sleep(0.05)
