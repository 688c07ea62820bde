"""The layouts that all modes draw from: one JSON a suite, a prompt a line, planned once and read ever after."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.results import write_file
from benchmarks.suite.kind import Prompt, Suite
from runtime import Layout, Region
from runtime.errors import RealCompoError
from runtime.planners import Planner, make_planner

OWN = "the suite's own"
DIGITS = 4
Row = Mapping[str, Any]  # prompt, regions, and why there are none
Report = Callable[[str], None]


@dataclass(frozen=True)
class Layouts:
    """What a file of layouts says of the tasks that were asked for, in the order of their prompts."""

    file: Path
    planner: str
    tasks: Mapping[str, Sequence[Layout]]

    def digest(self, task: str) -> str:
        """Of a task's prompts and layouts."""
        told = [_row(layout.prompt or "", layout) for layout in self.tasks[task]]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def read_or_plan(
    suite: Suite, prompts: Mapping[str, Sequence[Prompt]], file: Path, planner: str | None, report: Report
) -> Layouts:
    """The file's layouts; of tasks that it lacks, those of a planner, which it then has.

    Args:
        prompts: of each task all that the suite has.
        planner: None is the file's, or else the offline one. Where a suite has layouts of its own, they are taken.

    Raises:
        RealCompoError: layouts of another suite, of another planner, or of other prompts.
    """
    own = any(prompt.layout for asked in prompts.values() for prompt in asked)
    found: dict[str, Any] = (
        _read(suite, file) if file.exists() else {"planner": OWN if own else planner or "offline", "tasks": {}}
    )
    if planner not in (None, found["planner"]):
        raise RealCompoError(f"--layouts {file} has layouts by {found['planner']}; give another file for {planner}'s")
    if lacking := [task for task in prompts if task not in found["tasks"]]:
        plan = None if own else make_planner(found["planner"])
        for task in lacking:
            found["tasks"][task] = _plan_all(task, prompts[task], plan, report)
        write_file(file, _as_text(suite, found).encode())
    tasks = {task: _layouts(file, task, asked, found["tasks"][task]) for task, asked in prompts.items()}
    return Layouts(file, found["planner"], tasks)


def _read(suite: Suite, file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_text())
        name, _, _ = found["suite"], found["planner"], found["tasks"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RealCompoError(f"--layouts {file} is no file of a suite's layouts: {error!r}") from error
    if name != suite.name:
        raise RealCompoError(f"--layouts {file} is {name}'s; give one of {suite.name}, or a new name")
    return found


def _plan_all(task: str, prompts: Sequence[Prompt], planner: Planner | None, report: Report) -> list[Row]:
    rows = []
    for i, prompt in enumerate(prompts):
        report(f"{task}: {i} of {len(prompts)} prompts planned")
        rows.append(_plan(prompt, planner))
    return rows


def _plan(prompt: Prompt, planner: Planner | None) -> Row:
    """A prompt that has no layout is drawn without one, and says why."""
    if prompt.layout or planner is None:
        return _row(prompt.text, prompt.layout or Layout(()))
    try:
        return _row(prompt.text, planner(prompt.text))
    except RealCompoError as error:
        return {**_row(prompt.text, Layout(())), "why": str(error)}


def _row(text: str, layout: Layout) -> Row:
    return {"prompt": text, "regions": [_region(region) for region in layout.regions]}


def _region(region: Region) -> Row:
    box = [round(edge, DIGITS) for edge in region.bounding_box()]
    return {"phrase": region.phrase, "box": box, **({"layer": region.layer} if region.layer else {})}


def _as_text(suite: Suite, found: Mapping[str, Any]) -> str:
    """JSON with a prompt a line."""
    tasks = [
        f"  {json.dumps(task)}: [\n" + ",\n".join(f"   {json.dumps(row)}" for row in rows) + "\n  ]"
        for task, rows in found["tasks"].items()
    ]
    head = f' "suite": {json.dumps(suite.name)},\n "planner": {json.dumps(found["planner"])},\n "tasks": {{\n'
    return "{\n" + head + ",\n".join(tasks) + "\n }\n}\n"


def _layouts(file: Path, task: str, prompts: Sequence[Prompt], rows: Sequence[Row]) -> list[Layout]:
    try:
        layouts = [Layout([_region_of(one) for one in row["regions"]], row["prompt"]) for row in rows]
    except (KeyError, TypeError, RealCompoError) as error:
        raise RealCompoError(f"--layouts {file}: {task} has a row that is no layout: {error}") from error
    asked, placed = [prompt.text for prompt in prompts], [layout.prompt for layout in layouts]
    if asked != placed:
        at = next((i for i, pair in enumerate(zip(asked, placed, strict=False)) if pair[0] != pair[1]), len(placed))
        raise RealCompoError(
            f"--layouts {file}: {task} has other prompts than the checkout, from number {at} on; plan them anew into "
            "another file"
        )
    return layouts


def _region_of(row: Row) -> Region:
    x0, y0, x1, y1 = row["box"]
    return Region(row["phrase"], box=(x0, y0, x1, y1), layer=row.get("layer", 0))
