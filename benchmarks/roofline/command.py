"""`python -m benchmarks roofline`."""

from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks import machine
from benchmarks.grids import show
from benchmarks.options import Gradient, GuidanceScale, JsonFile, PlotFile, Sampler, Steps, UpdateEvery
from benchmarks.results import hand_over, write_picture
from benchmarks.roofline.figures import draw
from benchmarks.roofline.gpus import CPU, GPUS, HERE, find_ceilings
from benchmarks.roofline.measure import analyse
from benchmarks.roofline.tables import grids
from runtime.cli import plain_errors


def roofline(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle, such as engines/tabletop.")],
    gpu: Annotated[
        str,
        typer.Option(
            help=f"GPU whose datasheet gives the ceilings: {', '.join(GPUS)}; or {CPU}: this machine's, measured; or "
            f"{HERE}: this machine's GPU, or else its CPU. On the last two the engines are timed."
        ),
    ],
    steps: Steps = 50,
    sampler: Sampler = "plms",
    guidance_scale: GuidanceScale = 7.5,
    gradient: Gradient = "exact",
    update_every: UpdateEvery = 1,
    images: Annotated[int, typer.Option(min=1, help="Number of images drawn together, all from one prompt.")] = 1,
    regions: Annotated[int, typer.Option(min=1, help="Number of regions in the layout, 1 or more.")] = 2,
    plot: PlotFile = None,
    json_file: JsonFile = None,
) -> None:
    """Count a bundle's operations and memory traffic, and print the least time they take on a GPU."""
    with plain_errors():
        before = machine.describe()
        found = analyse(
            bundle,
            find_ceilings(gpu),
            images,
            regions,
            _device(gpu),
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


def _device(gpu: str) -> str | None:
    """Of this machine, if the engines are to be timed."""
    if gpu == HERE:
        return "cuda" if torch.cuda.is_available() else "cpu"
    return "cpu" if gpu == CPU else None
