"""One HTML page of saved results, with all that it shows inside: to send, to archive, to print."""

import json
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from benchmarks.grids import Result
from benchmarks.machine import in_one_line
from benchmarks.sections import embed
from benchmarks.table import BENCHMARKS
from runtime.errors import RealCompoError

REPORTED = [name for name, benchmark in BENCHMARKS.items() if benchmark.reported]


def read_results(files: Sequence[Path]) -> list[Result]:
    """The results in the files, and those within them, in the order of the page.

    Raises:
        RealCompoError: a file that is none of the benchmarks' results.
    """
    return in_order([_read(file) for file in files])


def in_order(results: Sequence[Result]) -> list[Result]:
    """The results, and those within them, in the order of the page."""
    every = [one for result in results for one in (result, *result.get("results", ()))]
    return sorted(every, key=lambda result: REPORTED.index(result["benchmark"]))


def render(title: str, results: Sequence[Result], pictures: Sequence[Path]) -> str:
    """The page.

    Raises:
        RealCompoError: a picture that cannot be read.
    """
    environment = Environment(
        loader=PackageLoader("benchmarks.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("report.html.jinja").render(
        title=title,
        sections=[(BENCHMARKS[result["benchmark"]].section(result), result) for result in results],
        pictures=[embed(file.stem.replace("_", " "), _read_picture(file)) for file in pictures],
        machine=in_one_line,
    )


def _read(file: Path) -> Result:
    try:
        result = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise RealCompoError(f"{file} cannot be read as JSON: {error}") from error
    if not isinstance(result, dict) or result.get("benchmark") not in REPORTED:
        raise RealCompoError(f"{file} is no result: give files that {', '.join(REPORTED)} wrote with --json")
    return result


def _read_picture(file: Path) -> bytes:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise RealCompoError(f"--picture {file} cannot be read: {error.strerror}") from error
    if not content.startswith(b"\x89PNG"):
        raise RealCompoError(f"--picture {file} is no PNG")
    return content
