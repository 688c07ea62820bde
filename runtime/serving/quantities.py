"""Durations and sizes as people write them on a command line: 20ms, 2min, 8MB."""

import re
from collections.abc import Mapping

from runtime.errors import RealCompoError

SECONDS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
BYTES = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9}


def seconds(name: str, text: str) -> float:
    """Raises: RealCompoError: no number with a unit of time."""
    return _read(name, text, SECONDS, "20ms or 2min")


def size(name: str, text: str) -> int:
    """In bytes.

    Raises:
        RealCompoError: no number with a unit of size.
    """
    return int(_read(name, text, BYTES, "500kB or 8MB"))


def _read(name: str, text: str, units: Mapping[str, float], example: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]+)", text.strip())
    if not found or found[2] not in units:
        raise RealCompoError(f"{name}={text!r} is no quantity; give a number and one of {', '.join(units)}: {example}")
    return float(found[1]) * units[found[2]]
