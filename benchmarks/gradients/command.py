"""`python -m benchmarks gradients`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.drawing import SceneSampling
from benchmarks.gradients.figures import draw
from benchmarks.gradients.measure import measure
from benchmarks.gradients.tables import grids
from benchmarks.grids import show
from benchmarks.options import CoefficientScale, GuidanceScale, JsonFile, PlotFile, Sampler
from benchmarks.results import hand_over, write_picture
from runtime.cli import plain_errors


def gradients(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle of the pair `tabletop`.")],
    scenes: Annotated[
        int, typer.Option(min=4, help="Number of held-out scenes, 4 or more; a quarter from each category.")
    ] = 40,
    steps: Annotated[int, typer.Option(min=5, help="Number of denoising steps, 5 or more.")] = 20,
    sampler: Sampler = "dpm++2m",
    guidance_scale: GuidanceScale = 2.5,
    coefficient_scale: CoefficientScale = 1e6,
    batch: Annotated[int, typer.Option(min=1, help="Number of images drawn together, 1 or more.")] = 8,
    plot: PlotFile = None,
    json_file: JsonFile = None,
) -> None:
    """Compare cheap gradients with the exact one: the loss over whole runs, and directions from the same states."""
    with plain_errors():
        before = machine.describe()
        sampling = SceneSampling(steps, sampler, guidance_scale, batch, coefficient_scale)
        with Console(stderr=True).status("loading the bundle") as status:
            found = measure(bundle, scenes, sampling, status.update)
        show(grids(found))
        if plot:
            write_picture(plot, draw(found))
        hand_over("gradients", found, before, json_file)
