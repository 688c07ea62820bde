"""Command line of the benchmarks: `python -m benchmarks quality | gradients | roofline BUNDLE`.

The last line of stdout is one JSON object.
"""

import json
from dataclasses import asdict, fields
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import gradients as gradients_benchmark
from benchmarks import quality as quality_benchmark
from benchmarks import roofline as roofline_benchmark
from benchmarks import roofline_report
from benchmarks.gpus import GPUS, find_ceilings
from benchmarks.tabletop.score import Scores
from runtime import RealCompo
from runtime.bundle import read_manifest, write_atomically
from runtime.cli import plain_errors
from runtime.options import Options
from runtime.sampling import make_table

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
    coefficient_scale: Annotated[float, typer.Option(help="Of the coefficients' updates.")] = 1e6,
    update_every: Annotated[int, typer.Option(min=1, help="Update at every k-th evaluation.")] = 1,
) -> None:
    """Score each way of combining the models on prompts with layouts: what is there, where, and how realistic."""
    with plain_errors():
        sampling = quality_benchmark.Sampling(steps, sampler, guidance_scale, batch, coefficient_scale, update_every)
        console, rows = Console(), []
        progress = Console(stderr=True)
        with progress.status("loading the bundle") as status:
            modes = mode or list(quality_benchmark.MODES)
            for name, scores in quality_benchmark.measure(bundle, scenes, modes, sampling):
                rows.append(quality_benchmark.as_row(name, scores))
                console.print(_table(name, scores))
                status.update(f"{len(rows)} of {len(modes)} modes scored")
        print(json.dumps({"scenes": scenes, "steps": steps, "sampler": sampler, "rows": rows}))


@app.command(epilog="Example: python -m benchmarks gradients engines/tabletop --plot outputs/gradients.png")
def gradients(
    bundle: Annotated[Path, typer.Argument(help="Bundle of the Tabletop pair.")],
    scenes: Annotated[int, typer.Option(min=4, help="Held-out scenes, a quarter of each category.")] = 40,
    steps: Annotated[int, typer.Option(min=5)] = 20,
    sampler: Annotated[str, typer.Option(help="plms, ddim or dpm++2m.")] = "dpm++2m",
    guidance_scale: Annotated[float, typer.Option(help="Of a pair this small; more exaggerates colours.")] = 2.5,
    coefficient_scale: Annotated[float, typer.Option(help="Of the coefficients' updates, for the losses.")] = 1e6,
    batch: Annotated[int, typer.Option(min=1, help="Images drawn together.")] = 8,
    plot: Annotated[Path | None, typer.Option(help="A PNG of both.", show_default=False)] = None,
) -> None:
    """Compare cheap gradients with the exact one: the loss over whole runs, and directions from the same states."""
    with plain_errors():
        sampling = quality_benchmark.Sampling(steps, sampler, guidance_scale, batch, coefficient_scale)
        console, losses = Console(), {}
        with Console(stderr=True).status("loading the bundle") as status:
            pipe, held_out = RealCompo.load(bundle), quality_benchmark.held_out_scenes(scenes)
            for run in gradients_benchmark.RUNS:
                status.update(f"losses: {run.name}")
                losses[run.name] = gradients_benchmark.losses_over_steps(pipe, held_out, run, sampling)
            status.update("directions")
            found = gradients_benchmark.agreements(pipe, held_out, sampling)
        console.print(_loss_table(losses))
        console.print(_agreement_table(found))
        if plot:
            plot.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(plot, gradients_benchmark.draw_figure(losses, found))
            console.print(f"{plot} is written")
        print(
            json.dumps({"scenes": scenes, **asdict(sampling), "losses": losses, "agreement": list(map(asdict, found))})
        )


@app.command(epilog="Example: python -m benchmarks roofline engines/tabletop --gpu h100 --plot outputs/roofline.png")
def roofline(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder, such as engines/tabletop.")],
    gpu: Annotated[str, typer.Option(help=f"{', '.join(GPUS)}; or cpu: this machine, measured.")],
    steps: Annotated[int, typer.Option(min=1)] = 50,
    sampler: Annotated[str, typer.Option(help="plms, ddim or dpm++2m.")] = "plms",
    guidance_scale: Annotated[float, typer.Option(help="1 or less leaves the unconditional rows out.")] = 7.5,
    gradient: Annotated[str, typer.Option(help="As `python -m runtime generate` takes it.")] = "exact",
    update_every: Annotated[int, typer.Option(min=1, help="Update at every k-th evaluation.")] = 1,
    images: Annotated[int, typer.Option(min=1, help="Images drawn together, of one prompt.")] = 1,
    regions: Annotated[int, typer.Option(min=1, help="Of the layout.")] = 2,
    plot: Annotated[Path | None, typer.Option(help="A PNG of the roofline.", show_default=False)] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="The last line, in a file.")] = None,
) -> None:
    """Count a bundle's operations and memory traffic, and say the least time they take on a GPU."""
    with plain_errors():
        rows = len(make_table(sampler, steps, read_manifest(bundle).scheduler))
        options = Options(rows, gradient, guidance_scale, round(0.4 * steps), 1e6, update_every, 1.0)
        work = roofline_benchmark.Work(options, images, regions)
        found = roofline_benchmark.analyse(bundle, find_ceilings(gpu), work)
        Console().print(*roofline_report.tables(found), sep="\n")
        line = json.dumps({"bundle": str(bundle), "images": images, "regions": regions, **found.as_json()})
        for path, content in ((plot, roofline_report.draw_figure(found)), (json_file, line.encode() + b"\n")):
            if path:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, content)
        print(line)


def _loss_table(losses: dict[str, list[float]]) -> Table:
    table = Table("coefficients moved by", "mean", "last", title="Attention loss a region over the evaluations")
    for name, values in losses.items():
        table.add_row(name, f"{sum(values) / len(values):.4f}", f"{values[-1]:.4f}")
    return table


def _agreement_table(found: list[gradients_benchmark.Agreement]) -> Table:
    table = Table("gradient", "cosine", "lowest", "highest", "norm ratio", title="Beside the exact gradient")
    for row in found:
        cosines = median(row.cosine), min(row.cosine), max(row.cosine)
        table.add_row(row.name, *(f"{value:.3f}" for value in cosines), f"{median(row.norm_ratio):.2g}")
    return table


def _table(mode: str, scores: dict[str, Scores]) -> Table:
    names = [field.name for field in fields(Scores)]
    table = Table("category", *names, title=mode)
    for category, row in scores.items():
        table.add_row(category, *(f"{getattr(row, name):.3f}" for name in names))
    return table


if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
