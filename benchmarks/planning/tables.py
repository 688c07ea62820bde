"""Planners' results as tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.grids import Grid, Result


def grids(found: Result) -> list[Grid]:
    """A table a file, a row for each type of its prompts."""
    return [_figures(file, found["planner"]) for file in found["files"]]


def wrong_grids(found: Result, most: int) -> list[Grid]:
    """The prompts whose layouts are not right, `most` of a file at most."""
    return [_wrong(file["file"], file["wrong"], most) for file in found["files"] if file["wrong"][:most]]


def _figures(file: Mapping[str, Any], planner: str) -> Grid:
    names = list(dict.fromkeys(name for means in file["types"].values() for name in means))
    rows = [(kind, *(_shown(name, means.get(name)) for name in names)) for kind, means in file["types"].items()]
    refused = f", {file['refused']} without a layout" if file["refused"] else ""
    return Grid(f"{Path(file['file']).name}, planner {planner}{refused}", ("type", *names), rows)


def _shown(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if name == "prompts" else f"{value:.3f}"


def _wrong(file: str, wrong: Sequence[Mapping[str, str]], most: int) -> Grid:
    rows = [(one["prompt"], one["type"], one["asked"], one["planned"]) for one in wrong[:most]]
    title = f"{Path(file).name}: {len(rows)} of {len(wrong)} that are wrong"
    return Grid(title, ("prompt", "type", "asked", "planned"), rows)
