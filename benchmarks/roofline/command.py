"""`python -m benchmarks roofline`."""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks import machine
from benchmarks.options import JsonFile, PlotFile, tables_console
from benchmarks.results import hand_over, write_file
from benchmarks.roofline.figures import draw_figure, tables
from benchmarks.roofline.gpus import GPUS, find_ceilings
from benchmarks.roofline.measure import Work, analyse
from runtime.bundle.manifest import read_manifest
from runtime.cli import plain_errors
from runtime.options import Options
from runtime.sampling.tables import make_table
from runtime.spatial.controlnets import ControlNets
from runtime.spatial.gligen import Gligen


def roofline(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder, such as engines/tabletop.")],
    gpu: Annotated[str, typer.Option(help=f"{', '.join(GPUS)}; or cpu: this machine, measured.")],
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
        manifest = read_manifest(bundle)
        rows = len(make_table(sampler, steps, manifest.scheduler))
        switch_step = (ControlNets if manifest.controls else Gligen).switch_step(steps)
        options = Options(rows, gradient, guidance_scale, switch_step, 1e6, update_every)
        found = analyse(
            bundle, find_ceilings(gpu), Work(options, images, regions, manifest.shared_unet, bool(manifest.controls))
        )
        tables_console().print(*tables(found), sep="\n")
        if plot:
            write_file(plot, draw_figure(found))
        result = {"bundle": str(bundle), "images": images, "regions": regions, **found.as_json()}
        hand_over("roofline", result, before, json_file)
