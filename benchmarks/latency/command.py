"""`python -m benchmarks latency`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import diffusers
import torch
import transformers
import typer

from benchmarks import machine
from benchmarks.grids import show
from benchmarks.latency.contenders import Sampling
from benchmarks.latency.figures import draw
from benchmarks.latency.measure import DEFAULTS, FULL_SIZE, Settings, find_target, measure
from benchmarks.latency.profile import profile_bundle
from benchmarks.latency.tables import grids, parity_line, profile_grids
from benchmarks.options import GuidanceScale, JsonFile, PlotFile
from benchmarks.progress import progress
from benchmarks.results import hand_over, write_picture
from runtime.cli import plain_errors
from runtime.errors import RealCompoError


def latency(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle whose checkpoints are on this machine.")],
    full_size: Annotated[
        bool,
        typer.Option(
            "--full-size",
            help="Run one contender at a time, each paired with a run of the stock pipeline; for bundles too "
            "large to hold two models in memory.",
        ),
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Contender to time, such as stock or exact; repeat it for more. Default: all."),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Number of images of each contender. Default: {DEFAULTS.rounds}; full size: {FULL_SIZE.rounds}.",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=2,
            help=f"Number of PLMS steps. Default: {DEFAULTS.sampling.steps}; full size: {FULL_SIZE.sampling.steps}.",
        ),
    ] = None,
    guidance_scale: GuidanceScale = 7.5,
    batch: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            help="Number of images drawn together, for images a second; repeat it for more. Default: 1 2 4 8; "
            "full size: none.",
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Number of CPU threads for torch and ONNX Runtime. Default: torch's own.")
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            help="Backend of the runtime to time; repeat it for more. Default: all that bundle and machine have."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Device to run on: auto, cpu, cuda or cuda:N.")] = "auto",
    compiled: Annotated[
        bool, typer.Option("--compile", help="Time also the stock pipeline under torch.compile.")
    ] = False,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Leave out what takes a process of its own for each contender: cold load, first image, memory, rows, "
            "images a second.",
        ),
    ] = False,
    profiled: Annotated[
        bool, typer.Option("--profile", help="Show also where the time goes within each engine.")
    ] = False,
    distilled: Annotated[
        Path | None,
        typer.Option(help="Bundle of the same pair with distilled models, which draw in their own steps."),
    ] = None,
    plot: PlotFile = None,
    json_file: JsonFile = None,
) -> None:
    """Time this runtime beside diffusers' stock pipelines and RealCompo in eager PyTorch, on the same checkpoints.

    Parity is asserted first. A ratio `a_vs_b` says how many times as long as b an image of a takes.
    """
    with plain_errors():
        _silence()
        torch.set_num_threads(threads or torch.get_num_threads())
        if quick and full_size:
            raise RealCompoError("--quick leaves out all that --full-size does; give one of them")
        before, defaults = machine.describe(), FULL_SIZE if full_size else DEFAULTS
        settings = Settings(
            Sampling(steps or defaults.sampling.steps, guidance_scale),
            rounds or defaults.rounds,
            tuple(batch or defaults.batches),
            tuple(only or ()),
            compiled,
            full_size,
            quick,
        )
        with progress("reading the bundle") as report:
            target = find_target(bundle, backend or (), device, torch.get_num_threads(), distilled)
            found = measure(target, settings, report)
            if profiled:
                profiles = profile_bundle(target, settings.sampling, report)
                found["profiles"] = [asdict(profile) for profile in profiles]
        show([*grids(found), *profile_grids(found)])
        typer.echo(f"{parity_line(found)}\n{machine.in_one_line(before)}")
        if plot:
            write_picture(plot, draw(found))
        hand_over("latency", found, before, json_file)


def _silence() -> None:
    """Both libraries comment on what is not installed here on purpose."""
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
