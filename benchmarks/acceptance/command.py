"""`python -m benchmarks acceptance`."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.acceptance.measure import as_json, choose, run_parts, skip
from benchmarks.acceptance.outcome import Job
from benchmarks.acceptance.process import Ended
from benchmarks.acceptance.table import MINUTES, PARTS, Part
from benchmarks.acceptance.tables import grids
from benchmarks.grids import show
from benchmarks.options import Steps
from benchmarks.report.page import in_order, render
from benchmarks.results import as_result, hand_over, write_file, write_result
from runtime.backends.devices import check_device
from runtime.bundle.manifest import read_manifest
from runtime.cli import plain_errors
from runtime.errors import RealCompoError
from runtime.writing import check_writable

INTERRUPTED = 130


def acceptance(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle.")],
    out: Annotated[Path, typer.Option(help="HTML page to write; the same as JSON is put beside it.")] = Path(
        "outputs/acceptance.html"
    ),
    minutes: Annotated[
        float,
        typer.Option(
            min=0.1,
            help="Time for all parts together, each of which has its share; those that find none left are skipped.",
        ),
    ] = MINUTES,
    only: Annotated[
        list[str] | None,
        typer.Option(help=f"Part to run; repeat it for more: {', '.join(PARTS)}. Default: all.", show_default=False),
    ] = None,
    device: Annotated[str, typer.Option(help="Device to run on: auto, cpu, cuda or cuda:N.")] = "auto",
    steps: Steps = 20,
    rounds: Annotated[int, typer.Option(min=1, help="Number of images of each contender of the latency part.")] = 3,
) -> None:
    """Everything that a first hour on a machine should tell, in eight minutes and without a network.

    Every part runs in a process of its own and is ended when its time is up. What cannot run here is named with its
    reason. Ctrl-C keeps what is done. Exits with 1 if a part failed or none could run.
    """
    with plain_errors(), TemporaryDirectory() as folder:
        before, chosen, result_file = machine.describe(), choose(only or ()), out.with_suffix(".json")
        check_device(device)
        read_manifest(bundle)
        _check_files(out, result_file)
        job = Job(bundle.resolve(), device, steps, rounds, Path(folder))
        ended, interrupted = _run(chosen, job, minutes, before, result_file)
        found = as_json(job, ended)
        result = as_result("acceptance", found, before)
        write_file(out, render(_title(before), in_order([result]), sorted(job.pictures.iterdir())).encode())
        show(grids(found))
        typer.echo(f"{out} and {result_file} are written")
        hand_over("acceptance", found, before, result_file)
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if not found["counts"]["passed"] or found["counts"]["failed"]:
        raise typer.Exit(1)


def _check_files(page: Path, result: Path) -> None:
    if page.resolve() == result.resolve():
        raise RealCompoError(f"--out {page}: that is where the JSON goes; name the page, such as {page.stem}.html")
    for file in (page, result):
        check_writable(file)


def _run(parts: list[Part], job: Job, minutes: float, before: dict[str, Any], file: Path) -> tuple[list[Ended], bool]:
    """The parts, those after an interruption skipped, and whether there was one; each is in the file once it ends."""
    ended: list[Ended] = []
    console = Console(stderr=True)
    try:
        with console.status("starting") as status:
            for one in run_parts(parts, job, minutes, status.update):
                ended.append(one)
                write_result(file, as_result("acceptance", as_json(job, ended), before))
                console.print(_line(one), highlight=False, markup=False, soft_wrap=True)
    except KeyboardInterrupt:
        return [*ended, *(skip(part, "interrupted") for part in parts[len(ended) :])], True
    return ended, False


def _line(ended: Ended) -> str:
    return f"{ended.part.name}: {ended.outcome.status} in {ended.seconds:.0f} s: {ended.outcome.words}"


def _title(before: dict[str, Any]) -> str:
    return f"RealCompo: acceptance on {', '.join(before['gpus']) or before['cpu']}"
