"""`python -m benchmarks balancing`."""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks import machine
from benchmarks.balancing.changes import CHANGES
from benchmarks.balancing.measure import measure, pictures_of
from benchmarks.balancing.tables import grids, predictions
from benchmarks.drawing import Sampling
from benchmarks.grids import show
from benchmarks.options import GuidanceScale, JsonFile, Sampler, Steps
from benchmarks.results import hand_over
from benchmarks.study.bar import Bar
from benchmarks.study.drawing import Studio
from benchmarks.study.subject import Batch, Layouts, Scenes, ScorerName, subject
from runtime import RealCompo
from runtime.cli import plain_errors


def balancing(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle, such as engines/tabletop.")],
    scenes: Scenes = 100,
    scorer: ScorerName = None,
    layouts: Layouts = None,
    steps: Steps = 20,
    sampler: Sampler = "dpm++2m",
    guidance_scale: GuidanceScale = 2.5,
    batch: Batch = 8,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to keep drawn pictures in, from which the same command goes on. Default: outputs/balancing/ "
            "and the bundle's name."
        ),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Try other ways of balancing, and see whether one beats handing over and constant weights."""
    with plain_errors(interrupted="stopped; the same command goes on"):
        before = machine.describe()
        pipe = RealCompo.load(bundle)
        judge, cases = subject(pipe.manifest, scorer, layouts, scenes)
        folder = out or Path("outputs/balancing") / bundle.resolve().name
        studio = Studio(pipe, cases, Sampling(steps, sampler, guidance_scale, batch), folder, CHANGES)
        with Bar(pictures_of(studio)) as bar:
            found = measure(studio, judge, bar)
        show([predictions(found), *grids(found)])
        hand_over("balancing", found, before, json_file)
