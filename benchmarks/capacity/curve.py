"""Seconds of a run by its number of images."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.serving.measure import Library
from runtime.errors import RealCompoError

Curve = Mapping[int, float]  # images: seconds
ROUNDS = 3


def measure_curve(bundle: Path, steps: int, most_images: int, report: Callable[[str], None]) -> Curve:
    """The library, called with 1, 2, 4, ... images, all of them in turn so that all see the same machine.

    Raises:
        RealCompoError: a bundle that does not load.
    """
    library = Library(bundle, steps)
    sizes = [size for size in (2**k for k in range(most_images.bit_length())) if size < most_images] + [most_images]
    for size in sizes:
        library.seconds(size)
    found: dict[int, list[float]] = {size: [] for size in sizes}
    for k in range(ROUNDS):
        report(f"runs of {', '.join(map(str, sizes))} images, round {k + 1} of {ROUNDS}")
        for size in sizes:
            found[size].append(library.seconds(size))
    return {size: median(seconds) for size, seconds in found.items()}


def read_curve(file: Path) -> Curve:
    """Of what `benchmarks capacity` or `benchmarks serving` wrote with --json.

    Raises:
        RealCompoError: another file.
    """
    try:
        return curve_of(json.loads(file.read_text()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RealCompoError(f"{file} has no curve: give what `capacity` or `serving` wrote with --json") from error


def curve_of(found: Mapping[str, Any]) -> Curve:
    """Raises: KeyError: of another benchmark."""
    if found["benchmark"] == "serving":
        most = found["settings"]["max_batch"]
        return {1: found["lone"]["library_seconds"], most: most / found["saturated"]["library_throughput"]}
    return {int(size): float(seconds) for size, seconds in found["curve"].items()}


def between(curve: Curve) -> Callable[[int], float]:
    """The curve at every number of images: on straight lines between those measured."""
    sizes = sorted(curve)
    most = sizes[-1]
    seconds = np.interp(range(most + 1), sizes, [curve[size] for size in sizes]).tolist()
    return lambda images: seconds[images]
