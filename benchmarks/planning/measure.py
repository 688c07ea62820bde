"""Plan every prompt of some files, and judge the layouts."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.planning.cases import Case, Figures
from benchmarks.planning.prompts import read_prompts
from runtime.errors import RealCompoError
from runtime.layouts.layout import Layout
from runtime.planners import Planner

ALL = "all"


@dataclass(frozen=True)
class Wrong:
    """A prompt whose layout is not right, or that has none."""

    type: str
    prompt: str
    asked: str
    planned: str


@dataclass(frozen=True)
class Judged:
    """A file's result: means of the figures by type, and of all; how many prompts had no layout."""

    file: str
    prompts: int
    refused: int
    types: Mapping[str, Mapping[str, float]]
    wrong: Sequence[Wrong]


def measure(files: Sequence[Path], planner: Planner, report: Callable[[str], None]) -> dict[str, Any]:
    """The result of each file, as JSON takes it.

    Raises:
        RealCompoError: a file that cannot be read. A planner's own are counted.
    """
    return {"files": [asdict(_judge(file, read_prompts(file), planner, report)) for file in files]}


def _judge(file: Path, cases: Sequence[Case], planner: Planner, report: Callable[[str], None]) -> Judged:
    figures: dict[str, list[Figures]] = defaultdict(list)
    wrong, refused = [], 0
    for i, case in enumerate(cases):
        report(f"{file.name}: {i} of {len(cases)} prompts planned")
        layout, planned = _plan(planner, case.prompt)
        refused += not layout.regions
        found = case.figures(layout)
        for name in dict.fromkeys((case.type, ALL)):
            figures[name].append(found)
        if found["accuracy"] < 1:
            wrong.append(Wrong(case.type, case.prompt, case.asked, planned))
    ordered = [name for name in figures if name != ALL] + [ALL]
    return Judged(str(file), len(cases), refused, {name: _means(figures[name]) for name in ordered}, wrong)


def _plan(planner: Planner, prompt: str) -> tuple[Layout, str]:
    """The layout and what it is for people; an empty one where there is none."""
    try:
        layout = planner(prompt)
    except RealCompoError as error:
        return Layout([]), f"none: {error}"
    return layout, "; ".join(
        f"{region.phrase} {' '.join(f'{edge:.2f}' for edge in region.bounding_box())}" for region in layout.regions
    )


def _means(rows: Sequence[Figures]) -> dict[str, float]:
    """Of each figure over the prompts that have it, and their number."""
    names = dict.fromkeys(name for row in rows for name in row)
    given = {name: [row[name] for row in rows if name in row] for name in names}
    return {"prompts": len(rows), **{name: sum(values) / len(values) for name, values in given.items()}}
