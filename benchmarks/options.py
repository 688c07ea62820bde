"""Options that several commands share; what the runtime has too is described as there."""

from pathlib import Path
from typing import Annotated

import typer

from runtime.request import every_knob

JsonFile = Annotated[
    Path | None, typer.Option("--json", help="File to write the result to, for `report`.", show_default=False)
]
_KNOBS = every_knob()
Steps = Annotated[int, typer.Option(min=1, help=_KNOBS["steps"].help)]
Sampler = Annotated[str, typer.Option(help=_KNOBS["sampler"].help)]
Gradient = Annotated[str, typer.Option(help=_KNOBS["gradient"].help)]
Seed = Annotated[int, typer.Option(help=_KNOBS["seed"].help)]
Form = Annotated[str, typer.Option(help=_KNOBS["form"].help)]
CoefficientScale = Annotated[float, typer.Option(help=_KNOBS["coefficient_scale"].help)]
UpdateEvery = Annotated[int, typer.Option(min=1, help=_KNOBS["update_every"].help)]
GuidanceScale = Annotated[float, typer.Option(help=_KNOBS["guidance_scale"].help)]
PlotFile = Annotated[Path | None, typer.Option(help="PNG to draw the results to.", show_default=False)]
