"""Command line of the benchmarks: `python -m benchmarks quality BUNDLE`. The last line of stdout is one JSON object."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import quality as quality_benchmark
from benchmarks.tabletop.score import Scores
from runtime.cli import plain_errors

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def benchmarks() -> None:
    """Measure a bundle. Tables go to stdout; its last line is one JSON object."""


@app.command(epilog="Example: python -m benchmarks quality engines/tabletop --scenes 200")
def quality(
    bundle: Annotated[Path, typer.Argument(help="Bundle of the Tabletop pair.")],
    scenes: Annotated[int, typer.Option(min=4, help="Held-out scenes, a quarter of each category.")] = 200,
    mode: Annotated[list[str] | None, typer.Option(help="Gradient mode to score; repeat it. Default: all.")] = None,
    steps: Annotated[int, typer.Option(min=1)] = 20,
    sampler: Annotated[str, typer.Option(help="plms, ddim or dpm++2m.")] = "dpm++2m",
    guidance_scale: Annotated[float, typer.Option(help="Of a pair this small; more exaggerates colours.")] = 2.5,
    batch: Annotated[int, typer.Option(min=1, help="Images drawn together.")] = 8,
) -> None:
    """Score each way of combining the models on prompts with layouts: what is there, where, and how realistic."""
    with plain_errors():
        sampling = quality_benchmark.Sampling(steps, sampler, guidance_scale, batch)
        console, rows = Console(), []
        progress = Console(stderr=True)
        with progress.status("loading the bundle") as status:
            modes = mode or list(quality_benchmark.MODES)
            for name, scores in quality_benchmark.measure(bundle, scenes, modes, sampling):
                rows.append(quality_benchmark.as_row(name, scores))
                console.print(_table(name, scores))
                status.update(f"{len(rows)} of {len(modes)} modes scored")
        print(json.dumps({"scenes": scenes, "steps": steps, "sampler": sampler, "rows": rows}))


def _table(mode: str, scores: dict[str, Scores]) -> Table:
    names = [field.name for field in fields(Scores)]
    table = Table("category", *names, title=mode)
    for category, row in scores.items():
        table.add_row(category, *(f"{getattr(row, name):.3f}" for name in names))
    return table


if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
