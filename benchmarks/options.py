"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

JsonFile = Annotated[
    Path | None, typer.Option("--json", help="Also write the result to this file, for `report`.", show_default=False)
]
Sampler = Annotated[str, typer.Option(help="plms, ddim or dpm++2m.")]
GuidanceScale = Annotated[float, typer.Option(help="Of a pair this small; more exaggerates colours.")]
PlotFile = Annotated[Path | None, typer.Option(help="Draw it, as a PNG.", show_default=False)]
