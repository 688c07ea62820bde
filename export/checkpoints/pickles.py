"""Pickled files of weights (.bin, .pth, .ckpt, .pt) -> safetensors, once, in a process of its own."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from export.checkpoints.header import TensorInfo
from export.staging import check_space, whole_file
from runtime.bundle.manifest import sha256_of
from runtime.errors import RealCompoError

Report = Callable[[str], None]
_ROOT = Path(__file__).parents[2]  # where the worker finds this package


def as_safetensors(file: Path, folder: Path, report: Report = lambda stage: None) -> Path:
    """The file's tensors as safetensors, in `folder`, named by the pickle's hash; converted if they are not there yet.

    Tensors of dictionaries within the file's have the dictionaries' keys before their names.

    Raises:
        RealCompoError: it is no weights alone, is damaged, or asks for too much memory.
    """
    report(f"reading {file.name}")
    converted = converted_place(file, folder)
    if not converted.is_file():
        report(f"converting {file.name} to safetensors")
        folder.mkdir(parents=True, exist_ok=True)
        check_space(folder, file.stat().st_size)
        with whole_file(converted) as scratch:
            _run_worker(file, scratch)
    return converted


def read_pickle_header(file: Path) -> dict[str, TensorInfo]:
    """The names, types and shapes of a pickle's tensors, as `as_safetensors` would write them.

    Raises:
        RealCompoError: as `as_safetensors`.
    """
    return {name: TensorInfo(dtype, tuple(shape)) for name, (dtype, shape) in _run_worker(file).items()}


def converted_place(file: Path, folder: Path) -> Path:
    """Where `as_safetensors` puts a pickle's tensors."""
    return folder / f"weights-{digest_of(file)[:12]}.safetensors"


def digest_of(file: Path) -> str:
    """A file's sha256, which a build asks for again and again.

    Raises:
        RealCompoError: it cannot be read.
    """
    try:
        stat = file.stat()
        return _digest(file.resolve(), stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise RealCompoError(f"{file} cannot be read: {error.strerror}") from error


@cache
def _digest(file: Path, size: int, changed: int) -> str:
    return sha256_of(file)


def _run_worker(file: Path, converted: Path | None = None) -> Any:
    """Dtype and shape of each of the pickle's tensors, which are in `converted` then."""
    request = {"pickle": str(file.resolve()), "safetensors": converted and str(converted.resolve())}
    with subprocess.Popen(
        [sys.executable, "-m", "export.checkpoints.pickle_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # torch's warnings, which say what the answer says
        text=True,
        cwd=_ROOT,
        start_new_session=True,  # Ctrl-C goes to this process, which kills the worker
    ) as worker:
        try:
            answer, _ = worker.communicate(json.dumps(request))
        except BaseException:
            worker.kill()
            raise
    return _read_answer(file, answer, worker.returncode)


def _read_answer(file: Path, answer: str, code: int) -> Any:
    if code:
        crash = signal.Signals(-code).name if code < 0 else f"code {code}"
        raise _refused(file, f"the process that read it ended with {crash}")
    match json.loads(answer):
        case {"refused": reason}:
            raise _refused(file, reason)
        case {"disk": [number, reason]}:
            raise OSError(number, reason)
        case told:
            return told["tensors"]


def _refused(file: Path, reason: str) -> RealCompoError:
    return RealCompoError(f"{file} cannot be taken: {reason}. Give the same weights as .safetensors")
