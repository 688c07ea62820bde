"""Folders shaped as the suites' checkouts, with prompts in Tabletop's words, and stand-ins for scorers, whose weights
cannot be had here: they read the pictures, number them, and write their results as the suites' own scripts do, but
say how bright a picture is."""

import csv
import json
from pathlib import Path
from typing import Any

TEXTS = ["a red ball and a blue cube", "a green cone above a pink ring", "two yellow balls"]

STAND_IN_T2I = '''
"""STAND-IN SCORER: brightness, written where {script} writes its scores."""
import argparse, json, os
from PIL import Image
parser = argparse.ArgumentParser()
parser.add_argument("{option}", dest="out")
parser.add_argument("--complex", type=bool, default=False)
parser.add_argument("--data_path")
told = parser.parse_args()
assert os.path.isdir("{here}"), "not in the script's own folder"
names = os.listdir(told.out + "/samples")
names.sort(key=lambda name: int(name.split("_")[-1].split(".")[0]))
grey = [Image.open(f"{{told.out}}/samples/{{name}}").convert("L").resize((1, 1)) for name in names]
scores = [one.getpixel((0, 0)) / 255 for one in grey]
os.makedirs(told.out + "/{result}", exist_ok=True)
answers = [{{"question_id": i, "answer": "%.4f" % score}} for i, score in enumerate(scores)]
json.dump(answers, open(told.out + "/{result}/vqa_result.json", "w"))
mean = sum(float(one["answer"]) for one in answers) / len(answers)
open(told.out + "/{result}/{total}", "w").write("score avg:" + str(mean))
if told.complex:
    open(told.out + "/{result}/told_complex", "w").write("")
'''
T2I_SCRIPTS = [
    ("BLIPvqa_eval/BLIP_vqa.py", "--out_dir", "BLIP", "annotation_blip", "blip_vqa_score.txt"),
    ("UniDet_eval/2D_spatial_eval.py", "--outpath", "experts", "labels/annotation_obj_detection_2d", "avg_score.txt"),
    ("UniDet_eval/3D_spatial_eval.py", "--outpath", "experts", "labels/annotation_obj_detection_3d", "avg_result.txt"),
    ("UniDet_eval/numeracy_eval.py", "--outpath", "experts", "annotation_num", "score.txt"),
    ("CLIPScore_eval/CLIP_similarity.py", "--outpath", "examples", "annotation_clip", "score_avg.txt"),
    ("3_in_1_eval/3_in_1.py", "--outpath", "../examples", "annotation_3_in_1", "vqa_score.txt"),
]

STAND_IN_GLIP = '''
"""STAND-IN SCORER for eval_{task}.py: what is asked is found in every second picture, as two boxes side by side."""
import argparse, json, os
parser = argparse.ArgumentParser()
parser.add_argument("--dir")
parser.add_argument("--output_dir")
told = parser.parse_args()
rows = {{row["id"]: row for row in json.load(open("../../dataset/NSR-1K/{task}/{task}.val.json"))}}
names, found = sorted(os.listdir(told.dir)), {{}}
for name in names:
    row, k = rows[int(name.split("_")[0])], int(os.path.splitext(name)[0].split("_")[1])
    asked = row["num_object"] if "num_object" in row else [(row["obj1"][0], 1), (row["obj2"][0], 1)]
    boxes = {{thing: [(0.9, [100 * i, 0, 100 * i + 50, 50])] * n for i, (thing, n) in enumerate(asked)}}
    found[name] = boxes if k % 2 == 0 else {{}}
os.makedirs(f"outputs/{{told.output_dir}}", exist_ok=True)
json.dump(found, open(f"outputs/{{told.output_dir}}/GLIP0.7_results.json", "w"))
print("{says}: 0.5000")
'''
STAND_IN_LAYOUTS = '''
"""STAND-IN for LayoutGPT's evaluation of layouts: it prints in the same words."""
import json, os, sys
assert os.path.isfile("dataset/NSR-1K/{task}/{task}.val.json")
rows = json.load(open(sys.argv[2]))
assert all(isinstance(row["query_id"], int) and all(len(box) == 4 for _, box in row["object_list"]) for row in rows)
print("{says}")
'''

STAND_IN_METER = '''
"""STAND-IN for OverLayBench's meter: the same files, and of each picture whether it is named in the data."""
import json
from pathlib import Path
class OverLayBenchMeter:
    def __init__(self, root, save_dir, resolution, bs_qwen=8, **others):
        self.root, self.save_root, self.resolution = root, save_dir, resolution
    def set_split(self, split, seed):
        rows = [json.loads(line) for line in open(f"data/{split}.jsonl")]
        self.annotations = {row["image_id"]: {**row, "relations": {}} for row in rows}
        self.pictures, self.folder = Path(self.root, split, str(seed)), Path(self.save_root, split, str(seed))
        self.folder.mkdir(parents=True)
        assert all((self.pictures / f"{name}.png").is_file() for name in self.annotations)
    def evaluate(self):
        yes = {name: {key: "Yes" for key in row["annotations"]} for name, row in self.annotations.items()}
        clip = {"global_clip_sim_per_img": {name: {"clip_score": 0.25} for name in yes}, "local_clip_sim_per_img": {}}
        written = {"baseline_bbox_predictions": {}, "entity_VQA": yes, "relation_VQA": {}, "clip_score": clip}
        for name, content in written.items():
            (self.folder / f"{name}.json").write_text(json.dumps(content))
'''
STAND_IN_UTILS = """
def calculate_success_rate(said, asked, mode):
    key = "relations" if mode == "Relationship VQA" else "annotations"
    found = [said[name].get(one, "no").lower() == "yes" for name in asked for one in asked[name][key]]
    return sum(found) / len(found)
def calculate_bbox_iou(asked, boxes, resolution):
    return 0.5 * (resolution == 512)
def calculate_overlap_iou(asked, boxes, resolution):
    return 0.5, 0.125
"""


def t2i_checkout(folder: Path) -> Path:
    """As Windows would have saved the prompts, the last newline missing, as in the real one."""
    for task in ("color", "shape", "texture", "spatial", "3d_spatial", "numeracy", "non_spatial", "complex"):
        _write(folder / "examples" / "dataset" / f"{task}_val.txt", "\r\n".join(TEXTS))
    for script, option, here, result, total in T2I_SCRIPTS:
        text = STAND_IN_T2I.format(script=script, option=option, here=here, result=result, total=total)
        _write(folder / script, text)
        if not here.startswith((".", "examples")):
            (folder / script).parent.joinpath(here).mkdir(exist_ok=True)
    return folder


COUNTING = [
    {"id": 31, "prompt": "two red balls", "num_object": [["red ball", 2]], "sub-type": "single-category"},
    {"id": 7, "prompt": "a blue cube and a pink ring", "num_object": [["cube", 1], ["ring", 1]], "sub-type": "real"},
]
SPATIAL = [
    {
        "id": 5,
        "prompt": "a red ball left of a blue cube",
        "obj1": ["ball", [0.1, 0.4, 0.2, 0.2]],
        "obj2": ["cube", [0.7, 0.4, 0.2, 0.2]],
        "relation": "left",
    }
]


def nsr_checkout(folder: Path) -> Path:
    glip = folder / "eval_models" / "GLIP"
    told = {
        "counting": (
            COUNTING,
            "Counting Accuracy",
            "Precision = 50.00 %\\n\\tRecall = 1.0 %\\n\\tIoU = 1.0 %\\n\\tMAE = 0.25\\n\\tacc = 1.0 %",
        ),
        "spatial": (SPATIAL, " Spatial Accuracy", "x.json, Overall, acc: 0.7500, missing: 2"),
    }
    for task, (rows, says, layouts) in told.items():
        _write(folder / "dataset" / "NSR-1K" / task / f"{task}.val.json", json.dumps(rows))
        _write(glip / f"eval_{task}.py", STAND_IN_GLIP.format(task=task, says=says))
        _write(folder / f"eval_{task}_layout.py", STAND_IN_LAYOUTS.format(task=task, says=layouts))
    return folder


HRS_FOLDERS = {
    "counting": "counting_prompts/synthetic_counting_prompts.csv",
    "spatial": "compositional_skill/spatial/synthetic_spatial_relation_prompts.csv",
    "size": "compositional_skill/size_comp/synthetic_size_comp_prompts.csv",
    "color": "compositional_skill/colors/synthetic_color_comp_prompts.csv",
}


def hrs_checkout(folder: Path) -> Path:
    for task, name in HRS_FOLDERS.items():
        path = folder / "codes" / "prompt_gen" / "generated_prompts" / name
        path.parent.mkdir(parents=True)
        drawn = "synthetic_prompt" if task == "counting" else "meta_prompt"
        other = "meta_prompt" if task == "counting" else "synthetic_prompt"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, [drawn, other])
            writer.writeheader()
            writer.writerows({drawn: f"{text}.", other: ""} for text in TEXTS)
    return folder


def overlaybench_checkout(folder: Path) -> Path:
    for split in ("simple", "medium", "hard"):
        rows = [_overlay_row(i, text) for i, text in enumerate(TEXTS[:2])]
        _write(folder / "data" / f"{split}.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
    _write(folder / "overlaybenchpytools" / "__init__.py", "")
    _write(folder / "overlaybenchpytools" / "meter.py", STAND_IN_METER)
    _write(folder / "overlaybenchpytools" / "utils.py", STAND_IN_UTILS)
    return folder


def _overlay_row(i: int, text: str) -> dict[str, Any]:
    """Boxes in 1024 pixels; the second object's name is not in the caption."""
    objects = {"a": ("ball" if i == 0 else "cone", [0, 0, 512, 1024]), "b": ("cyan cube", [512, 256, 1024, 1100])}
    return {
        "image_id": f"{i:08}",
        "caption": text,
        "annotations": {name: {"category": kind, "bbox": box} for name, (kind, box) in objects.items()},
    }


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
