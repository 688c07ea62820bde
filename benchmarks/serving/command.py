"""`python -m benchmarks serving`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.grids import show
from benchmarks.options import JsonFile, Steps
from benchmarks.results import hand_over
from benchmarks.serving.measure import Settings, measure
from benchmarks.serving.tables import grids
from runtime.cli import plain_errors


def serving(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle.")],
    steps: Steps = 10,
    max_batch: Annotated[int, typer.Option(min=1, help="Number of images in a run.")] = 8,
    max_queue: Annotated[int, typer.Option(min=1, help="Number of requests that may wait.")] = 64,
    rounds: Annotated[int, typer.Option(min=1, help="Number of turns that server and library take.")] = 3,
    seconds: Annotated[float, typer.Option(min=1, help="Seconds of a turn; rates get as many turns.")] = 10,
    overload: Annotated[float, typer.Option(min=1, help="Seconds of ten times the sustainable load.")] = 120,
    soak: Annotated[int, typer.Option(min=6, help="Number of requests of which a third are cancelled.")] = 2000,
    json_file: JsonFile = None,
) -> None:
    """Start a server, offer load, and compare it with the library called in a loop."""
    with plain_errors():
        before = machine.describe()
        settings = Settings(steps, max_batch, max_queue, rounds, seconds, overload, soak)
        with Console(stderr=True).status("opening the bundle") as status:
            found = measure(bundle, settings, status.update)
        show(grids(found))
        typer.echo(machine.in_one_line(before))
        hand_over("serving", found, before, json_file)
