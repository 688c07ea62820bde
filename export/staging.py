"""The folder that a bundle is built in: its lock, scratch space and the disk's limits; files and folders made whole."""

import errno
import fcntl
import json
import os
import shlex
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from socket import gethostname

from runtime.errors import RealCompoError

_SCRATCH, _LOCK = ".build", "lock.json"
_CANNOT_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)


@contextmanager
def scratch_folder(out: Path, command: Sequence[str]) -> Iterator[Path]:
    """An empty folder inside `out`, on the same disk, gone afterwards. One command at a time may have it.

    The lock is on `out` itself, which nobody removes; what the scratch folder tells of its holder is for people.

    Raises:
        RealCompoError: `out` cannot be written to, or another build is at work in it.
    """
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        lock = os.open(out, os.O_RDONLY)
    try:
        _take(lock, out)
        scratch = out / _SCRATCH
        shutil.rmtree(scratch, ignore_errors=True)  # a killed build leaves its files
        with disk_errors(out):
            scratch.mkdir()
            _sign(scratch, command)
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    finally:
        os.close(lock)


@contextmanager
def whole_folder(place: Path) -> Iterator[Path]:
    """A folder under a temporary name, which becomes `place` when the block has filled it; a failed one is left for the
    next attempt to clear away."""
    scratch = place.with_name(f".{place.name}")
    shutil.rmtree(scratch, ignore_errors=True)
    yield scratch
    scratch.rename(place)


@contextmanager
def whole_file(place: Path) -> Iterator[Path]:
    """A temporary name for a file, which becomes `place` when the block has written it; a killed process leaves what
    the next attempt writes over."""
    scratch = place.with_name(f".{place.name}")
    try:
        yield scratch
        scratch.replace(place)
    finally:
        scratch.unlink(missing_ok=True)


def copy_present(names: Sequence[str], source: Path, target: Path) -> None:
    """Copies those of the files and folders that `source` has; makes `target`, which must not be there."""
    target.mkdir(parents=True)
    for name in names:
        if (path := source / name).is_dir():
            shutil.copytree(path, target / name)
        elif path.is_file():
            shutil.copyfile(path, target / name)


@contextmanager
def disk_errors(out: Path, needed: int = 0) -> Iterator[None]:
    """Turn what the disk refuses into one clear line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_space(out, needed) from error
        if error.errno in _CANNOT_WRITE:
            raise RealCompoError(
                f"cannot write to {out}: {error.strerror}. Choose another folder with --out"
            ) from error
        raise


def check_space(out: Path, needed: int) -> None:
    """Raise RealCompoError if the disk has less than `needed` bytes free."""
    if shutil.disk_usage(out).free < needed:
        raise _no_space(out, needed)


def _no_space(out: Path, needed: int) -> RealCompoError:
    return RealCompoError(
        f"the disk is full: what is still to build in {out} needs about {size_in_words(needed)}, "
        f"{size_in_words(_free(out))} are free. "
        "Finished parts are kept; free some space and run the same command again"
    )


def _free(out: Path) -> int:
    return shutil.disk_usage(out).free


def size_in_words(count: int) -> str:
    """Of so many bytes."""
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.0f} MB"


def _take(lock: int, out: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RealCompoError(
            f"another build is at work in {out}{_holder(out)}; wait for it or choose another --out"
        ) from error


def _sign(scratch: Path, command: Sequence[str]) -> None:
    signed = {"pid": os.getpid(), "host": gethostname(), "started": time.time(), "command": list(command)}
    (scratch / _LOCK).write_text(json.dumps(signed))


def _holder(out: Path) -> str:
    """Who has the lock, if it has signed already."""
    try:
        signed = json.loads((out / _SCRATCH / _LOCK).read_text())
    except (OSError, ValueError):
        return ""
    since = time.strftime("%H:%M", time.localtime(signed["started"]))
    where = "" if signed["host"] == gethostname() else f" on {signed['host']}"
    return f": process {signed['pid']}{where} since {since}, `python -m export {shlex.join(signed['command'])}`"
