"""Results as tables: one form of them for the terminal and for `report`."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from runtime.cli import folding_table

WIDTH = 150  # of the widest table

Result = Mapping[str, Any]  # what a benchmark handed over


@dataclass(frozen=True)
class Grid:
    """A table of words; the first column names the row."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def show(grids: Iterable[Grid]) -> None:
    """On stdout; in a file or a pipe as wide as the widest table, for there rich takes 80 columns."""
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    for grid in grids:
        console.print(_to_rich(grid))


def _to_rich(grid: Grid) -> Table:
    columns = [Column(name, justify="right" if i else "left") for i, name in enumerate(grid.columns)]
    table = folding_table(*columns, title=grid.title)
    for row in grid.rows:
        table.add_row(*row)
    return table
