"""A suite: layouts, every mode's pictures from the same layouts and seeds, the scorer, and what follows from it."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from benchmarks.results import write_file
from benchmarks.study.statistics import difference, estimate
from benchmarks.suite.artists import Artist, Batch, Knobs, Picture
from benchmarks.suite.fit import Fitted
from benchmarks.suite.kind import Read, Run, Suite, Task, pictures_of
from benchmarks.suite.layouts import Layouts
from benchmarks.suite.pictures import foreign, is_whole, lacking, shown, sweep
from benchmarks.suite.scoring import carry_out, score
from runtime.errors import RealCompoError

Row = dict[str, Any]
SCORES, RECORDS, JUDGED = "scores", "records", "layouts"  # folders of ours beside the modes'


@dataclass(frozen=True)
class Work:
    """What is drawn, by whom, and where to."""

    suite: Suite
    checkout: Path
    tasks: Sequence[Task]
    modes: Mapping[str, Knobs]
    layouts: Layouts
    fitted: Mapping[str, Fitted]
    artist: Artist
    out: Path

    def folder(self, mode: str) -> Path:
        return self.out / plain(mode)

    def run(self, task: Task, mode: str) -> Run:
        results = self.out / SCORES / plain(mode) / task.name
        return Run(self.checkout, task, self.folder(mode), results, self.artist.side)

    def runs(self) -> Iterator[tuple[Task, str, Run]]:
        return ((task, mode, self.run(task, mode)) for task in self.tasks for mode in self.modes)


def plain(mode: str) -> str:
    """A mode as the name of a folder."""
    return mode.replace(":", "-")


def prepare(work: Work) -> None:
    """Make the folder ready for drawing.

    Raises:
        RealCompoError: it has pictures that were drawn otherwise.
    """
    for task, mode, _ in work.runs():
        _record(work, task, mode)
    sweep(work.out)


def draw(work: Work, processes: int, batch: int, advance: Callable[[int], None]) -> None:
    """Draw what is not there.

    Raises:
        RealCompoError: what drawing raises.
    """
    size = work.artist.batch(batch)
    batches = [one for task, mode, _ in work.runs() for one in _batches(work, task, mode, size)]
    pending = [one for one in batches if not all(is_whole(picture.path, one.side) for picture in one.pictures)]
    advance(sum(len(one.pictures) for one in batches) - sum(len(one.pictures) for one in pending))
    if pending:
        for count in work.artist.draw_all(pending, processes):
            advance(count)


def count(work: Work) -> int:
    """Of all pictures."""
    return len(work.modes) * sum(len(task.prompts) * task.images for task in work.tasks)


def judge(work: Work, python: Path | None, report: Callable[[str], None]) -> Row:
    """Rows of figures with intervals and paired differences; what lacks pictures is named instead.

    Raises:
        RealCompoError: a scorer fails, or its results are not of the pictures.
    """
    rows, differences, unfinished = list[Row](), list[Row](), list[Row]()
    for task in work.tasks:
        found = dict[str, Read]()
        for mode in work.modes:
            report(f"{task.name}, {mode}: the suite's scorer")
            if why := _why_not(work, task, mode):
                unfinished.append({"task": task.name, "mode": mode, "why": why})
            elif read := score(work.suite, work.run(task, mode), python):
                found[mode] = read
            else:
                unfinished.append({"task": task.name, "mode": mode, "why": "not scored: give --scorer-python"})
        rows += [row for mode, read in found.items() for row in _rows(task, mode, read)]
        differences += _differences(task, found)
    return {"rows": rows, "differences": differences, "unfinished": unfinished}


def judge_layouts(work: Work, python: Path) -> dict[str, Mapping[str, float]]:
    """Of suites that have an evaluation of layouts, by task; as planned, with nothing left out."""
    found = {}
    for task in work.tasks:
        folder = work.out / SCORES / JUDGED / task.name
        layouts = work.layouts.tasks[task.name][: len(task.prompts)]
        if commands := work.suite.layout_commands(work.checkout, task, layouts, folder):
            (log,) = carry_out(commands, python, folder)
            found[task.name] = work.suite.read_layouts(task, log)
    return found


def about(work: Work) -> Row:
    """What was drawn from what."""
    return {
        "suite": work.suite.name,
        "title": work.suite.title,
        "side": work.artist.side,
        "modes": {mode: dict(knobs) for mode, knobs in work.modes.items()},
        "layouts": {"file": str(work.layouts.file), "planner": work.layouts.planner},
        "tasks": {task.name: _about(work, task) for task in work.tasks},
    }


def _about(work: Work, task: Task) -> Row:
    fitted, planned = work.fitted[task.name], work.layouts.tasks[task.name][: len(task.prompts)]
    return {
        "prompts": len(task.prompts),
        "whole": task.whole,
        "images": task.images,
        "seed": task.seed,
        "regions": sum(len(layout.regions) for layout in planned),
        "left_out": fitted.left_out,
        "strange": fitted.strange,
        "without_layout": sum(not layout.regions for layout in fitted.layouts),
    }


def _batches(work: Work, task: Task, mode: str, size: int) -> list[Batch]:
    folder, layouts = work.folder(mode), work.fitted[task.name].layouts
    pictures = [
        Picture(task.prompts[i].text, layouts[i], task.seed + k, folder / name)
        for i, k, name in pictures_of(work.suite, task)
    ]
    return [
        Batch(pictures[start : start + size], work.modes[mode], work.out, work.artist.side)
        for start in range(0, len(pictures), size)
    ]


def _record(work: Work, task: Task, mode: str) -> None:
    """Keep how pictures are drawn before the first one is. How many prompts there are does not matter to each.

    Raises:
        RealCompoError: those that are there were drawn otherwise.
    """
    path = work.out / RECORDS / plain(mode) / f"{task.name}.json"
    told = {
        "bundle": work.artist.identity(),
        "layouts": work.layouts.digest(task.name),
        "left out": work.fitted[task.name].left_out > 0,
        "images": task.images,
        "seed": task.seed,
        "options": dict(work.modes[mode]),
    }
    told = json.loads(json.dumps(told))
    if path.is_file():
        kept = json.loads(path.read_text())
        if other := [name for name in told if kept.get(name) != told[name]]:
            raise RealCompoError(
                f"{work.folder(mode)} has pictures of {task.name} that were drawn otherwise ({', '.join(other)}); give "
                "another --out"
            )
        return
    write_file(path, json.dumps(told, indent=1).encode())


def _why_not(work: Work, task: Task, mode: str) -> str:
    """What keeps a task from being scored; empty if nothing does."""
    if missing := lacking(work.suite, task, work.folder(mode), work.artist.side):
        return f"pictures are missing or broken: {shown(missing, work.out)}"
    if strangers := foreign(work.suite, task, work.folder(mode)):
        return f"files among the pictures are none of them: {shown(strangers, work.out)}"
    return ""


def _rows(task: Task, mode: str, read: Read) -> list[Row]:
    return [
        {
            "task": task.name,
            "mode": mode,
            "figure": name,
            **estimate(values).as_json(),
            "said": read.said.get(name),
        }
        for name, values in read.scores.items()
    ]


def _differences(task: Task, found: Mapping[str, Read]) -> list[Row]:
    """Of every two modes the later less the earlier, paired by prompt."""
    return [
        {
            "task": task.name,
            "mode": later,
            "less": earlier,
            "figure": name,
            **difference(values, found[earlier].scores[name]).as_json(),
        }
        for earlier, later in combinations(found, 2)
        for name, values in found[later].scores.items()
    ]
