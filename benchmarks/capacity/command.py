"""`python -m benchmarks capacity`."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.capacity.check import Offered, check
from benchmarks.capacity.curve import Curve, measure_curve, read_curve
from benchmarks.capacity.measure import Wanted, plan
from benchmarks.capacity.tables import grids
from benchmarks.grids import show
from benchmarks.options import JsonFile, Steps
from benchmarks.results import hand_over
from runtime.cli import plain_errors
from runtime.errors import RealCompoError
from runtime.serving.quantities import seconds as read_seconds


def capacity(
    bundle: Annotated[
        Path | None, typer.Argument(help="Folder of a bundle, to measure here.", show_default=False)
    ] = None,
    load: Annotated[list[float] | None, typer.Option(help="Requests a second, for one image each; repeat it.")] = None,
    within: Annotated[float, typer.Option(min=0.001, help="Seconds that 95% of the requests may take.")] = 10,
    gpu_hour: Annotated[
        float | None, typer.Option(min=0, help="Price of a replica's GPU for an hour, in any currency.")
    ] = None,
    curve: Annotated[
        Path | None, typer.Option(help="What `capacity` or `serving` wrote with --json, instead of measuring.")
    ] = None,
    steps: Steps = 50,
    max_batch: Annotated[int, typer.Option(min=1, help="Number of images in a run.")] = 8,
    batch_window: Annotated[str, typer.Option(help="The server's --batch-window.")] = "20ms",
    requests: Annotated[int, typer.Option(min=100, help="Number of requests of a simulation, at least.")] = 20_000,
    server: Annotated[
        str | None,
        typer.Option(help="HOST:PORT of a server of this bundle: offer it the loads, and compare with the simulation."),
    ] = None,
    replicas: Annotated[int, typer.Option(min=1, help="Number of replicas behind --server.")] = 1,
    duration: Annotated[float, typer.Option(min=1, help="Seconds for which each load is offered to --server.")] = 60,
    json_file: JsonFile = None,
) -> None:
    """Say how many replicas a load takes, and what they cost, from the seconds of runs and a simulation of queueing."""
    with plain_errors():
        before = machine.describe()
        loads = load or [1.0, 10.0, 100.0]
        window = read_seconds("batch_window", batch_window)
        with Console(stderr=True).status("opening the bundle") as status:
            if server:
                offered = Offered(server, replicas, loads, duration, steps, max_batch, window)
                found = check(offered, status.update)
            else:
                wanted = Wanted(loads, within, window, requests, gpu_hour)
                found = plan(_curve(bundle, curve, steps, max_batch, status.update), wanted, status.update)
        show(grids(found))
        typer.echo(machine.in_one_line(before))
        hand_over("capacity", {**found, "bundle": str(bundle or ""), "steps": steps}, before, json_file)


def _curve(bundle: Path | None, file: Path | None, steps: int, max_batch: int, report: Callable[[str], None]) -> Curve:
    if file:
        return read_curve(file)
    if bundle is None:
        raise RealCompoError("there is nothing to measure: give a bundle, or --curve with what was measured")
    return measure_curve(bundle, steps, max_batch, report)
