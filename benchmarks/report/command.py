"""`python -m benchmarks report`."""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.report.page import read_results, render
from benchmarks.results import write_file
from runtime.cli import plain_errors


def report(
    results: Annotated[list[Path], typer.Argument(help="Files that the other commands wrote with --json.")],
    out: Annotated[Path, typer.Option(help="HTML page to write.")] = Path("outputs/report.html"),
    picture: Annotated[
        list[Path] | None,
        typer.Option(help="PNG to show on the page, titled by its file name; repeat it for more.", show_default=False),
    ] = None,
    title: Annotated[str, typer.Option(help="Title at the top of the page.")] = "RealCompo: measurements",
) -> None:
    """Write one self-contained HTML page from saved results. The last line printed is its path."""
    with plain_errors():
        page = render(title, read_results(results), picture or [])
        write_file(out, page.encode())
        typer.echo(out)
