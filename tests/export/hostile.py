"""Pickles as attackers and accidents make them, and what reads them in a fork of the test's process."""

import io
import json
import os
import resource
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from export.checkpoints.pickle_worker import answer

PROTOCOL = b"\x80\x02"
# What runs code; `compile` is what eval and exec of text begin with
WATCHED = {"os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "compile", "socket.connect"}
EXECUTED = 77  # the exit code of a process in which something ran


class Outcome(NamedTuple):
    answer: dict[str, Any]
    memory: int  # bytes that the process took beyond what it had


def read_in_fork(file: Path, out: Path) -> Outcome:
    """What the worker answers, in a process that ends at once if anything is executed in it."""
    read, write = os.pipe()
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    if (child := os.fork()) == 0:
        sys.addaudithook(_end)
        os.write(write, json.dumps(answer(file, out)).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as told:
        text = told.read()
    _, status, usage = os.wait4(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, f"{file}: exit {os.waitstatus_to_exitcode(status)}"
    return Outcome(json.loads(text), usage.ru_maxrss * 1024 - before)


def _end(event: str, _: object) -> None:
    if event in WATCHED:
        os._exit(EXECUTED)


def calling(module: str, name: str, argument: str) -> bytes:
    """A pickle that calls a function: GLOBAL, a tuple of one text, REDUCE."""
    text = argument.encode()
    return PROTOCOL + f"c{module}\n{name}\n".encode() + b"X" + len(text).to_bytes(4, "little") + text + b"\x85R."


def zipped(pickle: bytes, compression: int = zipfile.ZIP_STORED, **more: bytes) -> bytes:
    """An archive as torch.save writes it, around a pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in {"data.pkl": pickle, "byteorder": b"little", "version": b"3\n", **more}.items():
            archive.writestr(f"archive/{name}", content)
    return buffer.getvalue()


def legacy(pickle: bytes) -> bytes:
    """A file as torch.save wrote it before 1.6, around a pickle."""
    saved = io.BytesIO()
    torch.save({}, saved, _use_new_zipfile_serialization=False)
    return saved.getvalue().replace(PROTOCOL + b"}q\x00.", pickle)


def saved(content: Any, **options: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


class Calls:
    """An object whose pickle calls a function as it is read."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], Sequence[Any]]:
        return self.reduced
