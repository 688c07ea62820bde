"""OverLayBench (mlpc-ucsd/OverLayBench): layouts with captions, pictures `{split}/{seed}/{image_id}.png`, a meter.

Li et al., "OverLayBench: A Benchmark for Layout-to-Image Generation with Dense Overlaps", NeurIPS 2025. Its repository
has no data: `in_scorer/overlaybench_prompts.py` puts what its data set has into `data/` of the checkout.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.suite.in_scorer import script
from benchmarks.suite.kind import Command, Prompt, Read, Run, Suite, Task, read_lines
from benchmarks.suite.per_prompt import read_per_prompt
from runtime import Layout, Region
from runtime.errors import RealCompoError
from runtime.text.tokens import mentions

BOXES_IN = 1024  # pixels, whatever the pictures' size
SIDES = (512, 1024)  # of pictures that the meter takes
PER_PROMPT = "per_prompt.json"


class OverLayBench(Suite):
    name = "overlaybench"
    title = "OverLayBench"
    tasks = ("simple", "medium", "hard")
    images = 3
    seed = 1

    def prompts(self, checkout: Path, task: str) -> list[Prompt]:
        path = checkout / "data" / f"{task}.jsonl"
        if not path.is_file():
            raise RealCompoError(
                f"there is no {path}. Make it in the scorer's Python with: SCORER_PYTHON "
                f"benchmarks/suite/in_scorer/overlaybench_prompts.py {checkout}"
            )
        try:
            return [_prompt(json.loads(line)) for line in read_lines(path, "the prompts")]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RealCompoError(f"{path} has a line that is none of OverLayBench's: {error!r}") from error

    def picture(self, task: Task, i: int, k: int) -> Path:
        return Path(task.name, str(task.seed + k), f"{task.prompts[i].id}.png")

    def check(self, task: Task, side: int) -> None:
        if side not in SIDES:
            raise RealCompoError(
                f"OverLayBench's meter takes pictures of 512 or 1024 pixels, and this bundle's have {side}"
            )
        if not task.whole:
            raise RealCompoError(f"OverLayBench's meter takes all prompts of {task.name}: leave out --prompts")

    def old(self, run: Run) -> list[Path]:
        return [run.results / name for name in (run.task.name, PER_PROMPT)]

    def commands(self, run: Run) -> list[Command]:
        folders = (str(run.drawn.resolve()), str(run.results.resolve()), str(run.side))
        seeds = (str(run.task.seed + k) for k in range(run.task.images))
        out = str((run.results / PER_PROMPT).resolve())
        return [Command((script("overlaybench.py"), run.task.name, *folders, out, *seeds), run.checkout)]

    def read(self, run: Run) -> Read:
        return Read(read_per_prompt(run.results / PER_PROMPT, len(run.task.prompts)), {})


def _prompt(row: Mapping[str, Any]) -> Prompt:
    """The caption, with the names of objects at its end that it has not: their regions' tokens are found by them."""
    objects = [
        (str(one["category"]), tuple(min(max(edge / BOXES_IN, 0.0), 1.0) for edge in one["bbox"]))
        for one in row["annotations"].values()
    ]
    caption = str(row["caption"]).strip()
    more = dict.fromkeys(name for name, _ in objects if not mentions(caption, name))
    text = " ".join([caption, *(f"{name}." for name in more)])
    regions = [Region(name, box=(x0, y0, x1, y1)) for name, (x0, y0, x1, y1) in objects if x0 < x1 and y0 < y1]
    return Prompt(str(row["image_id"]), text, Layout(regions, text))
