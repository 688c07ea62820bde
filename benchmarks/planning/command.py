"""`python -m benchmarks planning`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.grids import show
from benchmarks.options import JsonFile
from benchmarks.planning.measure import measure
from benchmarks.planning.tables import grids, wrong_grids
from benchmarks.results import hand_over
from runtime.cli import plain_errors
from runtime.planners import PLANNERS, make_planner


def planning(
    prompts: Annotated[
        list[Path],
        typer.Argument(help="Files of prompts: NSR-1K's (.json, .jsonl) or T2I-CompBench's (.txt, one a line)."),
    ],
    planner: Annotated[str, typer.Option(help=f"Planner to judge: {', '.join(PLANNERS)}.")] = "offline",
    model: Annotated[str | None, typer.Option(help="Model for the chat planner. Default: $OPENAI_MODEL.")] = None,
    base_url: Annotated[
        str | None,
        typer.Option(help="Address of the chat planner's endpoint. Default: $OPENAI_BASE_URL, or else OpenAI's own."),
    ] = None,
    time_limit: Annotated[
        float | None, typer.Option(help="Limit in seconds on each of the chat planner's answers. Default: 60.")
    ] = None,
    wrong: Annotated[
        int, typer.Option(min=0, help="Number of wrong prompts listed of each file; --json has all.")
    ] = 50,
    json_file: JsonFile = None,
) -> None:
    """Plan the prompts of public benchmarks and judge the layouts by those benchmarks' rules: counts and relations."""
    with plain_errors():
        before = machine.describe()
        find = make_planner(planner, model=model, base_url=base_url, time_limit=time_limit)
        with Console(stderr=True).status("reading the prompts") as status:
            found = {"planner": planner, **measure(prompts, find, status.update)}
        show([*wrong_grids(found, wrong), *grids(found)])
        hand_over("planning", found, before, json_file)
