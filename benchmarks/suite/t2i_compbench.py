"""T2I-CompBench (Karine-Huang/T2I-CompBench): prompts a line, pictures in `samples`, a `vqa_result.json` a scorer.

Huang et al., "T2I-CompBench++: An Enhanced and Comprehensive Benchmark for Compositional Text-to-image Generation",
TPAMI 2025. Its scorers number pictures by the end of their names and read the prompt from the start.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from benchmarks.suite.kind import Command, Prompt, Read, Run, Suite, Task, over_images, read_lines, read_text
from runtime.errors import RealCompoError

ALL_IMAGES = 10  # of a prompt; 3-in-1 has this number, and all prompts, written in it
SCORE = "score"
TOLERANCE = 1e-3  # scorers round to four digits


@dataclass(frozen=True)
class Scorer:
    """A script.

    Args:
        folder: in the checkout, in which it has to run.
        out: its option for a task's folder.
        result: its folder in that one.
        total: the file in which it says the mean.
        complex: what it is told of the prompts of `complex`; of others nothing, for its option takes "False" as true.
        extra: what it is told of all.
    """

    script: str
    folder: str
    out: str
    result: str
    total: str
    complex: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()


BLIP = Scorer("BLIP_vqa.py", "BLIPvqa_eval", "--out_dir", "annotation_blip", "blip_vqa_score.txt")
SIDES = Scorer(
    "2D_spatial_eval.py",
    "UniDet_eval",
    "--outpath",
    "labels/annotation_obj_detection_2d",
    "avg_score.txt",
    complex=("--complex", "True"),
)
DEPTH = Scorer("3D_spatial_eval.py", "UniDet_eval", "--outpath", "labels/annotation_obj_detection_3d", "avg_result.txt")
COUNTS = Scorer("numeracy_eval.py", "UniDet_eval", "--outpath", "annotation_num", "score.txt")
CLIP = Scorer(
    "CLIPScore_eval/CLIP_similarity.py",
    ".",
    "--outpath",
    "annotation_clip",
    "score_avg.txt",
    complex=("--complex", "True"),
)
THREE = Scorer(
    "3_in_1.py",
    "3_in_1_eval",
    "--outpath",
    "annotation_3_in_1",
    "vqa_score.txt",
    extra=("--data_path=../examples/dataset",),
)
SCORERS = {  # of each task, in their order; the last one's result is the task's
    "color": (BLIP,),
    "shape": (BLIP,),
    "texture": (BLIP,),
    "spatial": (SIDES,),
    "3d_spatial": (DEPTH,),
    "numeracy": (COUNTS,),
    "non_spatial": (CLIP,),
    "complex": (BLIP, SIDES, CLIP, THREE),
}


class T2ICompBench(Suite):
    name = "t2i-compbench"
    title = "T2I-CompBench"
    tasks = tuple(SCORERS)
    images = ALL_IMAGES
    seed = 42

    def prompts(self, checkout: Path, task: str) -> list[Prompt]:
        lines = read_lines(checkout / "examples" / "dataset" / f"{task}_val.txt", "the prompts")
        texts = [line.split("\t")[0].strip() for line in lines]
        if odd := [text for text in texts if not text or "/" in text or "_" in text]:
            raise RealCompoError(
                f"the prompt {odd[0]!r} of {task} cannot be in a picture's name, as the suite wants it"
            )
        return [Prompt(str(i), text) for i, text in enumerate(texts)]

    def picture(self, task: Task, i: int, k: int) -> Path:
        return Path(task.name, "samples", f"{task.prompts[i].text}_{i * task.images + k:06}.png")

    def check(self, task: Task, side: int) -> None:
        if THREE in SCORERS[task.name] and not (task.whole and task.images == ALL_IMAGES):
            raise RealCompoError(
                f"the suite's 3-in-1 scorer takes all prompts of {task.name}, {ALL_IMAGES} pictures each: leave out "
                f"--prompts and --images, or name other --tasks"
            )

    def old(self, run: Run) -> list[Path]:
        """Also 3D's depth, which it would take from pictures that are no more."""
        folder = run.drawn / run.task.name
        return [*folder.glob("annotation*"), folder / "labels"]

    def commands(self, run: Run) -> list[Command]:
        out = (run.drawn / run.task.name).resolve()
        return [
            Command(
                (
                    scorer.script,
                    f"{scorer.out}={out}",
                    *(scorer.complex if run.task.name == "complex" else ()),
                    *scorer.extra,
                ),
                run.checkout / scorer.folder,
            )
            for scorer in SCORERS[run.task.name]
        ]

    def read(self, run: Run) -> Read:
        scorer = SCORERS[run.task.name][-1]
        folder = run.drawn / run.task.name / scorer.result
        answers = _answers(folder / "vqa_result.json", len(run.task.prompts) * run.task.images)
        scores = over_images(answers, run.task)
        said = _total(folder / scorer.total)
        if abs(said - scores.mean()) > TOLERANCE:
            raise RealCompoError(
                f"{folder}: the scorer says {said:g}, and its answers have a mean of {scores.mean():g}"
            )
        return Read({SCORE: scores}, {SCORE: said})


def _answers(path: Path, pictures: int) -> list[float]:
    """One a picture, in the order of the pictures.

    Raises:
        RealCompoError: they are not of as many pictures.
    """
    text = read_text(path, "the scorer's result")
    try:
        answers = {int(row["question_id"]): float(row["answer"]) for row in json.loads(text)}
    except (ValueError, KeyError, TypeError) as error:
        raise RealCompoError(f"{path} is no list of question_id and answer: {error!r}") from error
    if sorted(answers) != list(range(pictures)):
        raise RealCompoError(f"{path} has {len(answers)} answers that are not of the {pictures} pictures")
    return [answers[i] for i in range(pictures)]


def _total(path: Path) -> float:
    """The last number of a scorer's sentence."""
    found = re.findall(r"[-+.\deE]*\d", read_text(path, "the scorer's total"))
    if not found:
        raise RealCompoError(f"{path} has no number")
    return float(found[-1])
