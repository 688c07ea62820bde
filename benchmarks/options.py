"""What several commands share: options, and where their tables go."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

WIDTH = 150

JsonFile = Annotated[
    Path | None, typer.Option("--json", help="Also write the result to this file, for `report`.", show_default=False)
]
Sampler = Annotated[str, typer.Option(help="plms, ddim or dpm++2m.")]
GuidanceScale = Annotated[float, typer.Option(help="Of a pair this small; more exaggerates colours.")]
PlotFile = Annotated[Path | None, typer.Option(help="Draw it, as a PNG.", show_default=False)]


def tables_console() -> Console:
    """Stdout; in a file or a pipe as wide as the widest table, for there rich takes 80 columns."""
    return Console() if sys.stdout.isatty() else Console(width=WIDTH)
