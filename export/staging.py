"""The folder that a bundle is built in: scratch space, the disk's limits, and what earlier builds left."""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.errors import RealCompoError

_SCRATCH = ".build"
_CANNOT_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)


@contextmanager
def scratch_folder(out: Path) -> Iterator[Path]:
    """An empty folder inside `out`, on the same disk, gone afterwards. One build at a time may have it.

    Raises:
        RealCompoError: `out` cannot be written to, or another build is at work in it.
    """
    with disk_errors(out):
        (out / _SCRATCH).mkdir(parents=True, exist_ok=True)
    lock = os.open(out / _SCRATCH, os.O_RDONLY)
    try:
        _take(lock, out)
        _clear(out / _SCRATCH)  # a killed build leaves its files
        try:
            yield out / _SCRATCH
        finally:
            shutil.rmtree(out / _SCRATCH, ignore_errors=True)
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
        f"the disk is full: what is still to build in {out} needs about {_size(needed)}, {_size(_free(out))} are free. "
        "Finished parts are kept; free some space and run the same command again"
    )


def _free(out: Path) -> int:
    return shutil.disk_usage(out).free


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.0f} MB"


def _take(lock: int, out: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RealCompoError(f"another build is at work in {out}; wait for it or choose another --out") from error


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
