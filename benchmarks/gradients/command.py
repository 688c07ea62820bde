"""`python -m benchmarks gradients`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.eager.realcompo import EagerRealCompo
from benchmarks.gradients.measure import RUNS, agreements, draw_figure, losses_over_steps, shortcut_agreement
from benchmarks.options import GuidanceScale, JsonFile, PlotFile, Sampler, tables_console
from benchmarks.quality.measure import Sampling, held_out_scenes
from benchmarks.results import hand_over, write_file
from benchmarks.tables import gradient_grids, to_rich
from runtime import RealCompo
from runtime.cli import plain_errors


def gradients(
    bundle: Annotated[Path, typer.Argument(help="Bundle of the Tabletop pair.")],
    scenes: Annotated[int, typer.Option(min=4, help="Held-out scenes, a quarter of each category.")] = 40,
    steps: Annotated[int, typer.Option(min=5)] = 20,
    sampler: Sampler = "dpm++2m",
    guidance_scale: GuidanceScale = 2.5,
    coefficient_scale: Annotated[float, typer.Option(help="Of the coefficients' updates, for the losses.")] = 1e6,
    batch: Annotated[int, typer.Option(min=1, help="Images drawn together.")] = 8,
    plot: PlotFile = None,
    json_file: JsonFile = None,
) -> None:
    """Compare cheap gradients with the exact one: the loss over whole runs, and directions from the same states."""
    with plain_errors():
        before = machine.describe()
        sampling = Sampling(steps, sampler, guidance_scale, batch, coefficient_scale)
        console, losses = tables_console(), {}
        with Console(stderr=True).status("loading the bundle") as status:
            pipe, held_out = RealCompo.load(bundle), held_out_scenes(scenes)
            for run in RUNS:
                status.update(f"losses: {run.name}")
                losses[run.name] = losses_over_steps(pipe, held_out, run, sampling)
            status.update("directions")
            found = agreements(pipe, held_out, sampling)
            status.update("directions past all branches, in eager PyTorch")
            pair = pipe.manifest.pair
            controlnets = {
                kind: model.source for kind, model in zip(pipe.manifest.controls, pair.controlnets, strict=True)
            }
            eager = EagerRealCompo.load(
                pair.text_to_image.source,
                pair.spatial.source,
                controlnets=controlnets,
                latent_size=pipe.manifest.latent_shape[1:],
            )
            found.append(shortcut_agreement(eager, held_out, sampling))
        result = {"scenes": scenes, **asdict(sampling), "losses": losses, "agreement": list(map(asdict, found))}
        for grid in gradient_grids(result):
            console.print(to_rich(grid))
        if plot:
            write_file(plot, draw_figure(losses, found))
            console.print(f"{plot} is written")
        hand_over("gradients", result, before, json_file)
