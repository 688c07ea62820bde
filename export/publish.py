"""What makes a folder a bundle: its parts, the manifest, and the end of what was there before."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

from runtime.bundle.manifest import Role

_PART_FILE = re.compile(rf"({'|'.join(get_args(Role))})-[0-9a-f]{{12}}\.(onnx|onnx\.data|engine|json)")


def remove_stale(out: Path, keep: Iterable[str]) -> None:
    """Remove the engines of earlier builds. Nothing is touched that a build did not make."""
    kept = set(keep)
    for path in out.iterdir():
        if _PART_FILE.fullmatch(path.name) and path.name not in kept and path.is_file():
            path.unlink()
