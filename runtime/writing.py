"""What commands write: found out before the work starts whether it can be, and written in one step."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image

from runtime.bundle.manifest import write_atomically
from runtime.errors import RealCompoError

TRIED = (64, 64)  # size of a picture to try a format with, before the real one is known


def check_picture(out: Path, size: tuple[int, int] = TRIED) -> None:
    """Find out whether a picture of this (width, height) can be written, by writing one into memory.

    Raises:
        RealCompoError: not a picture's name, a format that cannot hold the picture, or not to be written.
    """
    encoded(out, Image.new("RGB", size))
    check_writable(out)


def encoded(path: Path, image: Image.Image) -> bytes:
    """The picture in the format of the path's suffix.

    Raises:
        RealCompoError: no format that is written, or one that cannot hold the picture.
    """
    suffix = path.suffix or "no suffix"
    form = Image.registered_extensions().get(path.suffix.lower())
    if form not in Image.SAVE:
        raise RealCompoError(f"{path}: {suffix} is not a picture format; use .png")
    buffer = BytesIO()
    try:
        image.save(buffer, format=form)
        size = Image.open(buffer).size if form in Image.OPEN else image.size
    except Exception as error:  # each format's writer refuses in its own way
        problem = " ".join(str(error).split())[:80]
        raise RealCompoError(
            f"{path}: {suffix} cannot hold {_shown(image.size)} in RGB: {problem}; use .png"
        ) from error
    if size != image.size:
        raise RealCompoError(f"{path}: {suffix} would make {_shown(size)} of {_shown(image.size)}; use .png")
    return buffer.getvalue()


def write_picture(path: Path, image: Image.Image) -> None:
    write_file(path, encoded(path, image))


def write_file(path: Path, content: bytes) -> None:
    with writing(path):
        write_atomically(path, content)


def check_writable(out: Path) -> None:
    """Find out before the work starts, not after it.

    Raises:
        RealCompoError: no file can be written there, or something else than a file would be replaced.
    """
    _check_name(out)
    with writing(out):
        if out.is_dir():
            raise RealCompoError(f"{out} is a folder; give the name of a file in it")
        if out.exists() and not out.is_file():
            raise RealCompoError(f"{out} is a device or a pipe; give the name of a file")
        _try_name(out)
        _try(out.parent)


def check_apart(**outs: Path | None) -> None:
    """Raises: RealCompoError: two options would write the same file."""
    seen: dict[Path, str] = {}
    for name, out in outs.items():
        if out is not None and (other := seen.setdefault(out.resolve(), name)) != name:
            raise RealCompoError(f"--{other} and --{name} both write {out}; give two names")


def check_folder(folder: Path) -> None:
    """Find out before the work starts whether files can be written into a folder, which is made."""
    _check_name(folder)
    with writing(folder):
        _try(folder)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in one line what keeps a file from being written."""
    try:
        yield
    except OSError as error:
        raise RealCompoError(f"cannot write {path}: {error.strerror or error}") from error


def _check_name(out: Path) -> None:
    if str(out) == "-":
        raise RealCompoError("- is no file: this command does not write to a pipe; give a name")
    try:
        str(out).encode()
    except UnicodeEncodeError as error:
        raise RealCompoError(f"the name {str(out)!a} is not UTF-8 text; give another") from error


def _try_name(out: Path) -> None:
    """Raise OSError of a name that the file system does not take."""
    try:
        out.lstat()
    except FileNotFoundError:
        return


def _try(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def _shown(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]} pixels"
