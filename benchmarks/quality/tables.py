"""Quality as tables."""

from collections.abc import Mapping
from typing import Any

from benchmarks.grids import Grid


def quality_grid(title: str, rows: Mapping[str, Mapping[str, Any]]) -> Grid:
    """Scores in 0..1 by mode, or by category of one mode."""
    names = [name for name, value in next(iter(rows.values())).items() if isinstance(value, float)]
    scores = [(row, *(f"{values[name]:.3f}" for name in names)) for row, values in rows.items()]
    return Grid(title, ("", *(name.replace("_", " ") for name in names)), scores)
