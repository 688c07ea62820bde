"""`python -m benchmarks scenes`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.drawing import Sampling
from benchmarks.grids import show
from benchmarks.options import GuidanceScale, JsonFile, PlotFile, Sampler, Steps
from benchmarks.results import hand_over, write_picture
from benchmarks.scenes.measure import MODES, Row, measure
from benchmarks.scenes.tables import grids
from benchmarks.scenes.worlds import worlds
from runtime.cli import plain_errors


def scenes(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle of tabletop-depth.")],
    scenes: Annotated[int, typer.Option(min=1, help="Number of random 3D scenes, 1 or more.")] = 60,
    mode: Annotated[
        list[str] | None,
        typer.Option(help=f"Gradient mode to score; repeat it for more. Default: {', '.join(MODES)}."),
    ] = None,
    steps: Steps = 20,
    sampler: Sampler = "dpm++2m",
    guidance_scale: GuidanceScale = 2.5,
    batch: Annotated[int, typer.Option(min=1, help="Number of images drawn together, 1 or more.")] = 8,
    plot: PlotFile = None,
    json_file: JsonFile = None,
) -> None:
    """Score pictures of random 3D scenes, drawn from their depth, and from Tabletop's depth of the same boxes."""
    with plain_errors():
        before, found, rows = machine.describe(), worlds(scenes), list[Row]()
        with Console(stderr=True).status("loading the bundle") as status:
            for row in measure(bundle, found, mode or MODES, Sampling(steps, sampler, guidance_scale, batch)):
                rows.append(row)
                status.update(f"{row.mode} with the depth of {row.depth} scored")
        show(grids(rows, scenes))
        if plot:
            from benchmarks.scenes.figures import draw

            write_picture(plot, draw(found, rows))
        told = {"scenes": scenes, "steps": steps, "sampler": sampler, "rows": [_as_json(row) for row in rows]}
        hand_over("scenes", told, before, json_file)


def _as_json(row: Row) -> dict[str, object]:
    scores = {name: one.as_json() for name, one in row.scores.items()}
    return {
        "mode": row.mode,
        "depth": row.depth,
        **scores,
        "in_box_of": {k: e.as_json() for k, e in row.in_box_of.items()},
    }
