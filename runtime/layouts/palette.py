"""Classes of segmentation: their ids, names and colours."""

import csv
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path

import numpy as np

from runtime.errors import FieldError, RealCompoError

UNLABELLED = 255  # the class id of a label map's pixels that belong to no class


@dataclass(frozen=True, eq=False)
class Palette:
    """A class's id is its place in `names` and `colors`, (classes, 3) uint8 RGB."""

    names: tuple[str, ...]
    colors: np.ndarray

    def paint(self, labels: np.ndarray) -> np.ndarray:
        """The colours of class ids, uint8 (H,W) -> (H,W,3); UNLABELLED is black.

        Raises:
            RealCompoError: a class that the palette lacks.
        """
        used = np.unique(labels)
        lacking = used[(used >= len(self.names)) & (used != UNLABELLED)]
        if lacking.size:
            raise RealCompoError(
                f"class id {lacking[0]} is not in the palette, whose ids are 0 to {len(self.names) - 1}, and "
                f"{UNLABELLED} for no class"
            )
        table = np.zeros((UNLABELLED + 1, 3), dtype=np.uint8)
        table[: len(self.colors)] = self.colors
        return table[labels]

    def ids_of(self, colours: np.ndarray) -> np.ndarray:
        """The class ids, uint8 (H,W), of colours (H,W,3) uint8: of a colour of several classes the first; UNLABELLED of
        black and of what no class has. The inverse of `paint`."""
        table, places = np.unique(_numbers(self.colors), return_index=True)
        wanted = _numbers(colours)
        found = np.searchsorted(table, wanted).clip(max=len(table) - 1)
        return np.where(table[found] == wanted, places[found], UNLABELLED).astype(np.uint8)


def _numbers(colours: np.ndarray) -> np.ndarray:
    """Colours (...,3) as one number each: (...)."""
    return colours.astype(np.int64) @ np.array([65536, 256, 1])


@cache
def ade20k() -> Palette:
    """The 150 classes of ADE20K in the colours that segmentation ControlNets were trained on."""
    with Path(__file__).with_name("ade20k.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    colors = [[int(row[channel]) for channel in ("red", "green", "blue")] for row in rows]
    return Palette(tuple(row["name"] for row in rows), np.array(colors, dtype=np.uint8))


def class_id(label: int | str, field: str = "label") -> int:
    """The id of a class given by its id or its ADE20K name.

    Raises:
        FieldError: a name that ADE20K lacks, or an id that no palette can have.
    """
    if not isinstance(label, str):
        if 0 <= label < UNLABELLED:
            return int(label)
        raise FieldError(field, f"class id {label} is out of range; ids are 0 to {UNLABELLED - 1}")
    names = ade20k().names
    if label in names:
        return names.index(label)
    raise FieldError(field, f"{label!r} is not an ADE20K class; {_hint(label, names)}")


def _hint(label: str, names: tuple[str, ...]) -> str:
    if label.isdecimal():
        return f"for a class id, write {label} without quotes"
    close = get_close_matches(label, names, n=3)
    return f"close to it: {', '.join(close)}" if close else "runtime/layouts/ade20k.csv lists them"
