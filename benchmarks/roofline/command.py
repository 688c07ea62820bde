"""`python -m benchmarks roofline`."""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks import machine
from benchmarks.grids import show
from benchmarks.options import JsonFile, PlotFile
from benchmarks.results import hand_over, write_picture
from benchmarks.roofline.figures import draw
from benchmarks.roofline.gpus import CPU, GPUS, find_ceilings
from benchmarks.roofline.measure import analyse
from benchmarks.roofline.tables import grids
from runtime.cli import plain_errors


def roofline(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder, such as engines/tabletop.")],
    gpu: Annotated[str, typer.Option(help=f"{', '.join(GPUS)}; or {CPU}: this machine, measured.")],
    steps: Annotated[int, typer.Option(min=1)] = 50,
    sampler: Annotated[str, typer.Option(help="plms, ddim or dpm++2m.")] = "plms",
    guidance_scale: Annotated[float, typer.Option(help="1 or less leaves the unconditional rows out.")] = 7.5,
    gradient: Annotated[str, typer.Option(help="As `python -m runtime generate` takes it.")] = "exact",
    update_every: Annotated[int, typer.Option(min=1, help="Update at every k-th evaluation.")] = 1,
    images: Annotated[int, typer.Option(min=1, help="Images drawn together, of one prompt.")] = 1,
    regions: Annotated[int, typer.Option(min=1, help="Of the layout.")] = 2,
    plot: PlotFile = None,
    json_file: JsonFile = None,
) -> None:
    """Count a bundle's operations and memory traffic, and say the least time they take on a GPU."""
    with plain_errors():
        before = machine.describe()
        found = analyse(
            bundle,
            find_ceilings(gpu),
            images,
            regions,
            steps=steps,
            sampler=sampler,
            guidance_scale=guidance_scale,
            gradient=gradient,
            update_every=update_every,
        ).as_json()
        show(grids(found))
        if plot:
            write_picture(plot, draw(found))
        hand_over("roofline", {"bundle": str(bundle), "images": images, "regions": regions, **found}, before, json_file)
