"""`python -m benchmarks study`."""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks import machine
from benchmarks.drawing import Sampling
from benchmarks.grids import Result, show
from benchmarks.options import GuidanceScale, JsonFile, Sampler, Steps
from benchmarks.results import command_line, hand_over
from benchmarks.study.bar import Bar
from benchmarks.study.drawing import Studio
from benchmarks.study.measure import as_json, pictures_of
from benchmarks.study.measure import study as carry_out
from benchmarks.study.pictures import write_pictures
from benchmarks.study.saving import save_recommended
from benchmarks.study.subject import Batch, Layouts, Scenes, ScorerName, subject
from benchmarks.study.tables import grids
from runtime import RealCompo
from runtime.bundle.manifest import MANIFEST
from runtime.cli import plain_errors
from runtime.writing import check_writable


def study(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle, such as engines/tabletop.")],
    scenes: Scenes = 100,
    placement: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Share of objects in their boxes, 0 to 1, for which to choose a mode. Default: 0.9 of what the "
            "spatial model places.",
        ),
    ] = None,
    scorer: ScorerName = None,
    layouts: Layouts = None,
    steps: Steps = 20,
    sampler: Sampler = "dpm++2m",
    guidance_scale: GuidanceScale = 2.5,
    batch: Batch = 8,
    layers: Annotated[
        bool,
        typer.Option(
            "--layers", help="Tell the layers of attention maps apart too, with the pair's checkpoints in PyTorch."
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to keep drawn pictures in, from which the same command goes on. Default: outputs/study/ and "
            "the bundle's name."
        ),
    ] = None,
    save: Annotated[
        bool, typer.Option("--save", help="Store the recommended mode in the bundle, for `generate --preset`.")
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Put the method on trial: what the maps know, what each mode brings, and whether the gradient brings it."""
    with plain_errors(interrupted="stopped; the same command goes on"):
        before = machine.describe()
        if save:
            check_writable(bundle / MANIFEST)
        pipe = RealCompo.load(bundle)
        judge, cases = subject(pipe.manifest, scorer, layouts, scenes)
        folder = out or Path("outputs/study") / bundle.resolve().name
        studio = Studio(pipe, cases, Sampling(steps, sampler, guidance_scale, batch), folder)
        with Bar(pictures_of(studio, layers)) as bar:
            found = carry_out(bundle, studio, judge, placement, layers, bar)
        result = as_json(found, studio) | {"pictures": write_pictures(bundle, studio, found)}
        _tell(result)
        if save:
            save_recommended(bundle, pipe.manifest, found.recommended, command_line())
            typer.echo(f"stored in {bundle}, for: python -m runtime generate {bundle} --preset recommended")
        hand_over("study", result, before, json_file)


def _tell(result: Result) -> None:
    show(grids(result))
    if not any(result["lift"].values()):
        typer.echo("no maps of noised pictures: they take the bundle's checkpoints and a picture of each layout")
    recommended = result["recommended"]
    typer.echo(f"recommended: {recommended['name']}: {recommended['why']}")
