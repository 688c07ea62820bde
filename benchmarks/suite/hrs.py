"""HRS-Bench (eslambakr/HRS_benchmark): CSVs of prompts, pictures `{prompt}_{iteration}.png`, detections, then rules.

Bakr et al., "HRS-Bench: Holistic, Reliable and Scalable Benchmark for Text-to-Image Models", ICCV 2023. Its scripts say
means of thirds alone, so its own functions are then asked prompt by prompt, in its own Python (`in_scorer/hrs.py`).
"""

import csv
import glob
import re
from dataclasses import dataclass
from pathlib import Path

from benchmarks.suite.in_scorer import script
from benchmarks.suite.kind import Command, Prompt, Read, Run, Suite, Task, read_text
from benchmarks.suite.per_prompt import read_per_prompt
from runtime.errors import RealCompoError

CODES = Path("codes")
GENERATED = CODES / "prompt_gen" / "generated_prompts"
METRICS = CODES / "eval_metrics"
UNIDET = METRICS / "detection" / "UniDet-master"
MASKDINO = METRICS / "colors" / "MaskDINO"
WEIGHTS = Path("weights")
UNIDET_CONFIG = "configs/Partitioned_COI_RS101_2x.yaml"
MASKDINO_CONFIG = "configs/coco/instance-segmentation/swin/maskdino_R50_bs16_50ep_4s_dowsample1_2048.yaml"
MASKDINO_WEIGHTS = "maskdino_swinl_50ep_300q_hid2048_3sd1_instance_maskenhanced_mask52.3ap_box59.pth"
FOUND = "found.pkl"
SEEN = "seen"  # detections drawn into pictures, or masks
PER_PROMPT = "per_prompt.json"
RULE_LOG = "1.log"
SAYS = {"accuracy": r"Averaged Accuracy: +([\d.]+)", "F1": r"F1 Score : +([\d.]+)"}  # the last is of all levels


@dataclass(frozen=True)
class Skill:
    """A task.

    Args:
        prompts: its CSV.
        text: the column of the CSV that is drawn.
        rule: the script that judges what was detected.
    """

    prompts: str
    text: str
    rule: str


SKILLS = {
    "counting": Skill(
        "counting_prompts/synthetic_counting_prompts.csv", "synthetic_prompt", "counting/calc_counting_acc.py"
    ),
    "spatial": Skill(
        "compositional_skill/spatial/synthetic_spatial_relation_prompts.csv",
        "meta_prompt",
        "compositions/calc_spatial_relation_acc.py",
    ),
    "size": Skill(
        "compositional_skill/size_comp/synthetic_size_comp_prompts.csv",
        "meta_prompt",
        "compositions/calc_size_comp_acc.py",
    ),
    "color": Skill(
        "compositional_skill/colors/synthetic_color_comp_prompts.csv",
        "meta_prompt",
        "colors/hue_based_color_classifier.py",
    ),
}


class HRS(Suite):
    name = "hrs"
    title = "HRS-Bench"
    tasks = tuple(SKILLS)
    images = 3  # its iterations are 1 to 3
    seed = 0

    def prompts(self, checkout: Path, task: str) -> list[Prompt]:
        path, column = checkout / GENERATED / SKILLS[task].prompts, SKILLS[task].text
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                texts = [row[column].strip() for row in csv.DictReader(file)]
        except (OSError, KeyError, ValueError, AttributeError) as error:
            raise RealCompoError(f"cannot read the prompts {path}, column {column}: {error}") from error
        return [Prompt(str(i), text) for i, text in enumerate(texts)]

    def picture(self, task: Task, i: int, k: int) -> Path:
        """Filled with zeros, as the rule of colours wants it."""
        return Path(task.name, f"{i:05}_{k:02}.png")

    def old(self, run: Run) -> list[Path]:
        return [run.results / name for name in (FOUND, SEEN, PER_PROMPT)]

    def commands(self, run: Run) -> list[Command]:
        (run.results / SEEN).mkdir(exist_ok=True)
        detect = self._segment(run) if run.task.name == "color" else self._detect(run)
        return [detect, *([self._judge(run)] if run.task.whole else []), self._per_prompt(run)]

    def read(self, run: Run) -> Read:
        scores = read_per_prompt(run.results / PER_PROMPT, len(run.task.prompts))
        return Read(scores, _said(run.results / RULE_LOG) if run.task.whole else {})

    def _detect(self, run: Run) -> Command:
        weights = (run.checkout / WEIGHTS / "unified_det" / Path(UNIDET_CONFIG).with_suffix(".pth").name).resolve()
        options = ("--config-file", UNIDET_CONFIG, "--input", _all_pictures(run), "--pkl_pth", _in(run, FOUND))
        ends = ("--output", _in(run, SEEN), "--opts", "MODEL.WEIGHTS", str(weights))
        return Command(("demo.py", *options, *ends), run.checkout / UNIDET)

    def _segment(self, run: Run) -> Command:
        weights = (run.checkout / WEIGHTS / "mask_dino" / MASKDINO_WEIGHTS).resolve()
        options = ("--config-file", MASKDINO_CONFIG, "--input", _all_pictures(run), "--output", _in(run, SEEN))
        return Command(("demo/demo.py", *options, "--opts", "MODEL.WEIGHTS", str(weights)), run.checkout / MASKDINO)

    def _judge(self, run: Run) -> Command:
        """The rule's own script. Size takes its CSV for the number of iterations, too: so that is the CSV's name."""
        rule, prompts, images = str(_rule(run)), str(_csv(run)), str(run.task.images)
        if run.task.name == "color":
            return Command((rule, _in(run, SEEN), prompts, str(_pictures(run))), run.results, needed=False)
        if run.task.name != "size":
            return Command((rule, FOUND, prompts, images), run.results, needed=False)
        named = run.results / images
        if not named.is_symlink():
            named.symlink_to(_csv(run))
        return Command((rule, FOUND, images), run.results, needed=False)

    def _per_prompt(self, run: Run) -> Command:
        found = SEEN if run.task.name == "color" else FOUND
        told = (str(_rule(run)), str(_csv(run)), found, str(_pictures(run)))
        counts = (str(len(run.task.prompts)), str(run.task.images))
        return Command((script("hrs.py"), run.task.name, *told, *counts, PER_PROMPT), run.results)


def _said(log: Path) -> dict[str, float]:
    """What the rule's script said at its end, if it got there."""
    found = {name: re.findall(what, read_text(log, "what the scorer said")) for name, what in SAYS.items()}
    return {name: float(values[-1]) / 100 for name, values in found.items() if values}


def _rule(run: Run) -> Path:
    return (run.checkout / METRICS / SKILLS[run.task.name].rule).resolve()


def _csv(run: Run) -> Path:
    return (run.checkout / GENERATED / SKILLS[run.task.name].prompts).resolve()


def _pictures(run: Run) -> Path:
    return (run.drawn / run.task.name).resolve()


def _all_pictures(run: Run) -> str:
    return f"{glob.escape(str(_pictures(run)))}/*.png"


def _in(run: Run, name: str) -> str:
    return str((run.results / name).resolve())
