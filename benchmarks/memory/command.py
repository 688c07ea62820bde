"""`python -m benchmarks memory`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import machine
from benchmarks.grids import show
from benchmarks.memory.measure import Job, run
from benchmarks.memory.tables import grids
from benchmarks.options import JsonFile
from benchmarks.progress import progress
from benchmarks.results import hand_over
from runtime.cli import plain_errors
from runtime.modes import MODES, check_modes

USUAL = ("text_to_image", "surrogate", "exact")


def memory(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle.")],
    mode: Annotated[
        list[str] | None,
        typer.Option(help=f"Mode to load: {', '.join(MODES)}; repeat it for more. Default: {', '.join(USUAL)}."),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Number of steps of the picture that is drawn.")] = 4,
    backend: Annotated[str, typer.Option(help="Library that runs the engines, as `generate --backend` takes it.")] = (
        "auto"
    ),
    device: Annotated[str, typer.Option(help="Device to run on: auto, cpu, cuda or cuda:N.")] = "auto",
    json_file: JsonFile = None,
) -> None:
    """Load a bundle for one mode, in a process of its own, draw a picture and say what the process holds."""
    with plain_errors():
        before, modes = machine.describe(), mode or list(USUAL)
        check_modes(modes)
        with progress("loading") as report:
            held = {}
            for name in modes:
                report(f"drawing with {name}")
                held[name] = run(Job(str(bundle.resolve()), name, backend, device, steps))
        rows = {name: {**asdict(one), "loaded": one.loaded} for name, one in held.items()}
        found = {"steps": steps, "backend": backend, "device": device, "modes": rows}
        show(grids(found))
        hand_over("memory", found, before, json_file)
