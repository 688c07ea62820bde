"""`python -m benchmarks suite`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.grids import show
from benchmarks.options import JsonFile
from benchmarks.results import hand_over
from benchmarks.study.bar import Bar
from benchmarks.suite import measure
from benchmarks.suite.artists import Artist, Knobs
from benchmarks.suite.fit import Fitted, fit
from benchmarks.suite.kind import Prompt, Suite, Task
from benchmarks.suite.layouts import Layouts, read_or_plan
from benchmarks.suite.local import Local
from benchmarks.suite.server import Server
from benchmarks.suite.table import SUITES, find_suite
from benchmarks.suite.tables import grids
from runtime.backends import BACKENDS
from runtime.cli import knob_values, knobs_on_command_line, plain_errors, with_options
from runtime.errors import RealCompoError
from runtime.planners import PLANNERS
from runtime.request import every_knob
from runtime.writing import check_folder

MODES = "text_to_image,spatial,handover,surrogate,exact"
STAGES = ("layouts", "pictures", "scores")
KNOBS = {name: knob for name, knob in every_knob().items() if name not in ("gradient", "seed")}


@with_options(KNOBS)
def suite(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help=f"Suite: {', '.join(SUITES)}.")],
    bundle: Annotated[str, typer.Argument(help="Folder of a bundle, or URL of a server of one.")],
    checkout: Annotated[Path, typer.Option(help="Folder of the suite's own repository.")],
    out: Annotated[Path, typer.Option(help="Folder for pictures and results, from which the same command goes on.")],
    layouts: Annotated[
        Path | None,
        typer.Option(help="File of layouts to draw all modes from; what it lacks is planned. Default: in --out."),
    ] = None,
    planner: Annotated[
        str | None, typer.Option(help=f"Planner: {' or '.join(PLANNERS)}. Default: the file's, or else offline.")
    ] = None,
    modes: Annotated[
        str, typer.Option(help="Modes, with commas between: values of --gradient of `generate`, or recommended.")
    ] = MODES,
    tasks: Annotated[str | None, typer.Option(help="Tasks, with commas between. Default: all of the suite's.")] = None,
    prompts: Annotated[
        int | None, typer.Option(min=1, help="Number of prompts of each task, the first. Default: all.")
    ] = None,
    images: Annotated[
        int | None, typer.Option(min=1, help="Number of pictures of each prompt. Default: the suite's own.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Seed of each prompt's first picture; the next has the next. Default: the suite's."),
    ] = None,
    stages: Annotated[str, typer.Option(help=f"What to do, with commas between: {', '.join(STAGES)}.")] = ",".join(
        STAGES
    ),
    scorer_python: Annotated[
        Path | None, typer.Option(help="Python that has what the suite's scorer needs. Default: nothing is scored.")
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, help="Number of processes that draw, or of requests to a server at once.")
    ] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Number of pictures that a process draws together.")] = 4,
    leave_out: Annotated[
        bool, typer.Option("--leave-out", help="Draw without the regions that the bundle does not take.")
    ] = False,
    backend: Annotated[str, typer.Option(help=f"Library that runs the engines: {', '.join(BACKENDS)}.")] = "auto",
    device: Annotated[
        str, typer.Option(help="Device: auto, cpu, cuda or cuda:N. Of several processes each takes the next GPU.")
    ] = "auto",
    json_file: JsonFile = None,
    **knobs: Any,
) -> None:
    """Draw a public suite's prompts in every mode from the same layouts, and judge them with the suite's own scorer."""
    with plain_errors(interrupted="stopped; the same command goes on"):
        before = machine.describe()
        chosen = find_suite(name)
        todo = _some_of("--stages", stages, STAGES)
        wanted = _some_of("--tasks", tasks, chosen.tasks) if tasks else list(chosen.tasks)
        check_folder(out)
        with Console(stderr=True).status("reading the prompts") as status:
            asked = {task: chosen.prompts(checkout, task) for task in wanted}
            placed = read_or_plan(chosen, asked, layouts or out / "layouts.json", planner, status.update)
        if todo == ["layouts"]:
            _tell_layouts(chosen, placed)
            return
        artist = _open(bundle, backend, device)
        first = chosen.seed if seed is None else seed
        made = [_task(task, all_of, prompts, images or chosen.images, first) for task, all_of in asked.items()]
        if scorer_python and "scores" in todo:
            for task in made:
                chosen.check(task, artist.side)
        given = knob_values(KNOBS, knobs)
        work = measure.Work(
            chosen,
            checkout,
            made,
            _modes(modes, artist, knobs_on_command_line(context, given), given),
            placed,
            _fit(bundle, artist, made, placed, leave_out),
            artist,
            out,
        )
        if "pictures" in todo:
            measure.prepare(work)
            with Bar(measure.count(work)) as bar:
                bar.begin("drawing")
                measure.draw(work, processes, batch, bar.advance)
        found = {"bundle": bundle, **measure.about(work)}
        if "scores" in todo:
            with Console(stderr=True).status("scoring") as status:
                if scorer_python:
                    found["layouts"]["judged"] = measure.judge_layouts(work, scorer_python)
                found |= measure.judge(work, scorer_python, status.update)
        show(grids(found))
        hand_over("suite", found, before, json_file)


def _open(bundle: str, backend: str, device: str) -> Artist:
    return Server(bundle) if bundle.startswith(("http://", "https://")) else Local(Path(bundle), backend, device)


def _task(name: str, prompts: Sequence[Prompt], most: int | None, images: int, seed: int) -> Task:
    asked = prompts[:most]
    return Task(name, asked, images, seed, whole=len(asked) == len(prompts))


def _modes(modes: str, artist: Artist, given: Knobs, everything: Knobs) -> dict[str, Knobs]:
    names = list(dict.fromkeys(name.strip() for name in modes.split(",") if name.strip()))
    if not names:
        raise RealCompoError(f"--modes {modes!r} names none; use some of {MODES}")
    return {name: artist.knobs(name, given, everything) for name in names}


def _some_of(option: str, text: str, known: tuple[str, ...]) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in known]:
        raise RealCompoError(f"{option} {unknown[0]} is unknown; use some of {', '.join(known)}")
    if not names:
        raise RealCompoError(f"{option} {text!r} names none; use some of {', '.join(known)}")
    return [name for name in known if name in names]


def _fit(bundle: str, artist: Artist, tasks: list[Task], layouts: Layouts, leave_out: bool) -> dict[str, Fitted]:
    placed = {task.name: layouts.tasks[task.name][: len(task.prompts)] for task in tasks}
    if isinstance(artist, Local):
        return fit(Path(bundle), placed, leave_out)
    if leave_out:
        raise RealCompoError("--leave-out takes the bundle's folder: a server does not say what it does not take")
    return {task: Fitted(of_task) for task, of_task in placed.items()}


def _tell_layouts(suite: Suite, layouts: Layouts) -> None:
    for task, placed in layouts.tasks.items():
        without = sum(not layout.regions for layout in placed)
        typer.echo(f"{suite.title}, {task}: {len(placed)} layouts by {layouts.planner}, {without} without a region")
    typer.echo(layouts.file)
