"""OverLayBench's own meter on one split, as its README has it, then its own functions asked picture by picture.

python overlaybench.py SPLIT PICTURES METRICS SIDE OUT.json SEED...      (in the suite's checkout)
"""

import copy
import importlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

FILES = ("baseline_bbox_predictions", "entity_VQA", "relation_VQA", "clip_score")


def main(split: str, pictures: str, metrics: str, side: str, out: str, *seeds: str) -> None:
    sys.path.insert(0, str(Path.cwd()))
    theirs = importlib.import_module("overlaybenchpytools.meter"), importlib.import_module("overlaybenchpytools.utils")
    meter = theirs[0].OverLayBenchMeter(root=pictures, save_dir=metrics, resolution=int(side), **inference())
    rows = []  # of each seed, of each picture
    for seed in seeds:
        meter.set_split(split, seed)
        meter.evaluate()
        rows.append(judge(theirs[1], meter.annotations, read(Path(metrics, split, seed)), int(side)))
    count = len(rows[0])
    figures = {name: [mean([row[i][name] for row in rows]) for i in range(count)] for name in rows[0][0]}
    Path(out).write_text(json.dumps(figures))


def inference() -> Any:
    """vLLM where it is installed, as the README recommends for several GPUs."""
    if importlib.util.find_spec("vllm"):
        torch = importlib.import_module("torch")
        return {"bs_qwen": "all", "use_vllm": True, "vllm_args": {"tensor_parallel_size": torch.cuda.device_count()}}
    return {"bs_qwen": 8}


def read(folder: Path) -> Any:
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in FILES}


def judge(suite: Any, annotations: Any, said: Any, side: int) -> Any:
    return [judge_one(suite, name, annotation, said, side) for name, annotation in annotations.items()]


def judge_one(suite: Any, name: str, annotation: Any, said: Any, side: int) -> Any:
    asked, boxes = {name: annotation}, {name: said["baseline_bbox_predictions"].get(name, {})}
    overlap = known(suite.calculate_overlap_iou, *copy.deepcopy((asked, boxes)), side)
    clips = said["clip_score"]["local_clip_sim_per_img"].get(name, {}).values()
    return {
        "mIoU": known(suite.calculate_bbox_iou, *copy.deepcopy((asked, boxes)), side),
        "O-mIoU": overlap and overlap[1],
        "SR_E": known(suite.calculate_success_rate, {name: said["entity_VQA"].get(name, {})}, asked, "Entity VQA"),
        "SR_R": known(
            suite.calculate_success_rate, {name: said["relation_VQA"].get(name, {})}, asked, "Relationship VQA"
        ),
        "CLIP_global": said["clip_score"]["global_clip_sim_per_img"][name]["clip_score"],
        "CLIP_local": mean([clip["clip_score"] for clip in clips]),
    }


def known(function: Any, *arguments: Any) -> Any:
    """None of a picture that has nothing of the kind."""
    try:
        return function(*arguments)
    except ZeroDivisionError:
        return None


def mean(values: Any) -> Any:
    given = [value for value in values if value is not None]
    return sum(given) / len(given) if given else None


if __name__ == "__main__":
    main(*sys.argv[1:])
