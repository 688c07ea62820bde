"""NSR-1K (weixi-feng/LayoutGPT): counting and spatial prompts, pictures `{id}_{iteration}.jpg`, GLIP's detections.

Feng et al., "LayoutGPT: Compositional Visual Planning and Generation with Large Language Models", NeurIPS 2023. The
rules are those of its `eval_models/GLIP/eval_counting.py` and `eval_spatial.py`. Its evaluation of layouts takes no
weights.
"""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.planning.nsr1k import COMPARISON, Counting, Spatial, relation_of
from benchmarks.planning.prompts import read_prompts
from benchmarks.suite.kind import Command, Prompt, Read, Run, Suite, Task, over_images, pictures_of, read_text
from runtime import Layout
from runtime.errors import RealCompoError

GLIP = Path("eval_models", "GLIP")
RESULTS = "GLIP0.7_results.json"  # 0.7 is the threshold of its detections, the suite's default
LOG = "0.log"
SAYS = {"counting": r"Counting Accuracy: ([\d.]+)", "spatial": r"Spatial Accuracy: ([\d.]+)"}
LAYOUT_SAYS = {  # what its evaluation of layouts prints, by figure, and what makes a share of it
    "counting": {name: (rf"{name} = ([\d.]+) %", 0.01) for name in ("Precision", "Recall", "IoU", "acc")}
    | {"MAE": (r"MAE = ([\d.]+)", 1.0)},
    "spatial": {"acc": (r"Overall, acc: ([\d.]+)", 1.0), "missing": (r"missing: (\d+)", 1.0)},
}
ROUNDED = 1e-4
Found = Mapping[str, Sequence[Any]]  # by name: [score, [x0, y0, x1, y1]] each


class NSR1K(Suite):
    name = "nsr-1k"
    title = "NSR-1K"
    tasks = ("counting", "spatial")
    images = 5  # LayoutGPT draws five of a prompt, "to reduce variance"
    seed = 0

    def prompts(self, checkout: Path, task: str) -> list[Prompt]:
        path = checkout / "dataset" / "NSR-1K" / task / f"{task}.val.json"
        cases = read_prompts(path)
        ids = [row["id"] for row in json.loads(path.read_text())]
        return [Prompt(str(one), case.prompt, asked=case) for one, case in zip(ids, cases, strict=True)]

    def picture(self, task: Task, i: int, k: int) -> Path:
        return Path(task.name, f"{task.prompts[i].id}_{k}.jpg")

    def old(self, run: Run) -> list[Path]:
        """GLIP's script would take its detections from there instead of looking."""
        return [run.results / RESULTS]

    def commands(self, run: Run) -> list[Command]:
        out = os.path.relpath(run.results.resolve(), (run.checkout / GLIP / "outputs").resolve())
        pictures = (run.drawn / run.task.name).resolve()
        script = f"eval_{run.task.name}.py"
        return [Command((script, "--dir", str(pictures), "--output_dir", out), run.checkout / GLIP)]

    def read(self, run: Run) -> Read:
        path = run.results / RESULTS
        found = _detections(path, [name.name for _, _, name in pictures_of(self, run.task)])
        judged = [
            RULES[run.task.name](run.task.prompts[i].asked, found[file.name])
            for i, _, file in pictures_of(self, run.task)
        ]
        right, asked = np.asarray(judged, np.float64).T
        scores = over_images(list(right), run.task) / asked.mean()
        said = _said(run.results / LOG, SAYS[run.task.name])
        if abs(said - scores.mean()) > ROUNDED:
            raise RealCompoError(f"{path}: the scorer says {said:g}, and its detections give {scores.mean():g}")
        return Read({"accuracy": scores}, {"accuracy": said})

    def layout_commands(self, checkout: Path, task: Task, layouts: Sequence[Layout], folder: Path) -> list[Command]:
        """Its own evaluation of layouts; what it writes beside itself is written into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{task.name}.json"
        rows = [
            {
                "query_id": int(prompt.id),
                "iter": 0,
                "prompt": prompt.text,
                "object_list": [[region.phrase, list(region.bounding_box())] for region in layout.regions],
            }
            for prompt, layout in zip(task.prompts, layouts, strict=True)
        ]
        file.write_text(json.dumps(rows))
        dataset = folder / "dataset"
        if not dataset.is_symlink():
            dataset.symlink_to((checkout / "dataset").resolve())
        script = (checkout / f"eval_{task.name}_layout.py").resolve()
        return [Command((str(script), "--file", file.name), folder)]

    def read_layouts(self, task: Task, log: Path) -> Mapping[str, float]:
        return {name: _said(log, what) * share for name, (what, share) in LAYOUT_SAYS[task.name].items()}


def _detections(path: Path, pictures: Sequence[str]) -> Mapping[str, Found]:
    try:
        found: Mapping[str, Found] = json.loads(read_text(path, "the scorer's result"))
    except ValueError as error:
        raise RealCompoError(f"{path} is no JSON: {error}") from error
    if sorted(found) != sorted(pictures):
        raise RealCompoError(f"{path} has detections of {len(found)} pictures that are not the {len(pictures)} drawn")
    return found


def _said(log: Path, what: str) -> float:
    found = re.findall(what, read_text(log, "what the scorer said"))
    if not found:
        raise RealCompoError(f"{log} does not say {what.partition('(')[0]!r}")
    return float(found[-1])


def _count(asked: Counting, found: Found) -> tuple[int, int]:
    """How many of a picture's objects are as many as asked, of how many. A comparison counts once, of two objects."""
    wanted = dict(asked.objects)
    if asked.type != COMPARISON:
        return sum(len(found.get(name, ())) == count for name, count in wanted.items()), len(wanted)
    (first, count), (second, other) = asked.objects
    there = len(found.get(second, ()))
    right = there == count if other == count else (there - count) * (other - count) > 0
    return int(len(found.get(first, ())) == count and right), len(wanted)


def _relate(asked: Spatial, found: Found) -> tuple[int, int]:
    """Whether any two boxes of the two objects lie as asked."""
    boxes = [[tuple(box) for _, box in found.get(name, ())] for name in (asked.first, asked.second)]
    relations = {relation_of(one, other) for one in boxes[0] for other in boxes[1]}
    beside = asked.relation == "next to" and not relations.isdisjoint({"left", "right"})
    return int(asked.relation in relations or beside), 1


RULES: dict[str, Callable[[Any, Found], tuple[int, int]]] = {"counting": _count, "spatial": _relate}
