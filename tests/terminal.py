"""A command on a terminal of 80 columns, as a user sees it."""

import os
import pty
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.machine import ROOT

COLUMNS = 80


def on_terminal(command: Sequence[str], folder: Path = ROOT) -> str:
    """What it prints, without rich's styles."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": str(COLUMNS), "TERM": "dumb"}
    with subprocess.Popen(command, stdout=theirs, stdin=theirs, cwd=folder, env=environment) as process:
        os.close(theirs)
        printed = b""
        with suppress(OSError):  # the terminal is gone with its last process
            while part := os.read(ours, 65536):
                printed += part
    os.close(ours)
    assert process.returncode == 0, printed.decode()
    return printed.decode().replace("\r\n", "\n")


def column(text: str, number: int) -> str:
    """Of tables, what stands in a column, so that a word that goes on below is in one piece."""
    rows = [line.split("│") for line in text.splitlines() if line.startswith("│")]
    return "".join(row[number + 1].strip() for row in rows)
