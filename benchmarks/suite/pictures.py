"""A suite's pictures on disk: written whole or not at all, and looked at before they are taken for drawn."""

import os
import time
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image

from benchmarks.suite.kind import Suite, Task, pictures_of
from runtime.writing import writing

PARTIAL = ".partial"  # folder of pictures that are being written: the suites' own must hold nothing else
LEFT = 3600.0  # seconds after which nobody writes one any more
FORMATS = {".png": "PNG", ".jpg": "JPEG"}
ENDS = {".png": b"IEND\xaeB`\x82", ".jpg": b"\xff\xd9"}  # which Pillow does without


def save(image: Image.Image, path: Path, out: Path) -> None:
    """Write a picture of `out` so that its name has it whole or not at all, whenever one is killed.

    Raises:
        RealCompoError: it cannot be written.
    """
    buffer = BytesIO()
    image.save(buffer, format=FORMATS[path.suffix])
    partial = out / PARTIAL / f"{os.getpid()}-{time.monotonic_ns()}{path.suffix}"
    with writing(path):
        for folder in (path.parent, partial.parent):
            folder.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(buffer.getvalue())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)


def is_whole(path: Path, side: int) -> bool:
    """Whether there is a picture that can be read to its end, of so many pixels a side."""
    try:
        content = path.read_bytes()
        with Image.open(BytesIO(content), formats=list(FORMATS.values())) as image:
            size = image.size
            if image.format == "PNG":
                image.verify()  # of every chunk, to the last; quicker than its pixels
            else:
                image.load()
    except (OSError, SyntaxError, ValueError):  # Pillow's words for a broken PNG
        return False
    return size == (side, side) and content.endswith(ENDS[path.suffix])


def lacking(suite: Suite, task: Task, drawn: Path, side: int) -> list[Path]:
    """The pictures of a task in a mode's folder that are missing or broken."""
    paths = (drawn / name for _, _, name in pictures_of(suite, task))
    return [path for path in paths if not is_whole(path, side)]


def foreign(suite: Suite, task: Task, drawn: Path) -> list[Path]:
    """What lies among them that is none of them: a scorer would take it for one."""
    known = {drawn / name for _, _, name in pictures_of(suite, task)}
    folders = {path.parent for path in known}
    return sorted(path for folder in folders if folder.is_dir() for path in folder.iterdir() if path not in known)


def sweep(out: Path) -> None:
    """Delete what killed processes have left half written."""
    for path in _files(out / PARTIAL):
        if time.time() - path.stat().st_mtime > LEFT:
            path.unlink(missing_ok=True)


def _files(folder: Path) -> Iterable[Path]:
    return folder.iterdir() if folder.is_dir() else ()


def shown(paths: Sequence[Path], out: Path) -> str:
    """How many, and the first."""
    return f"{len(paths)}, such as {paths[0].relative_to(out)}"
