"""Other tools' layouts, in files made by hand as those tools write them, against places worked out by hand."""

import json
import shlex
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from runtime import Layout, RealCompoError
from runtime.__main__ import app
from runtime.layouts.formats.kind import Choices
from runtime.layouts.formats.masks import decode_runs, draw_polygons
from runtime.layouts.formats.reading import read_tools_layout
from runtime.layouts.formats.table import FORMATS
from runtime.layouts.writing import layout_files


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def to_file(content: Any, name: str = "file.json") -> Path:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return to_file


def places(layout: Layout) -> list[tuple[str, tuple[float, ...]]]:
    return [(region.phrase, tuple(round(edge, 6) for edge in region.bounding_box())) for region in layout.regions]


CATEGORIES = [
    {"id": 17, "name": "cat", "supercategory": "animal"},
    {"id": 62, "name": "chair"},
    {"id": 1, "name": "person"},
]
PERSON = [  # COCO's 17 points of x, y and visibility, in a picture of 200x400
    *(100, 40, 2, 104, 36, 2, 96, 36, 1, 0, 0, 0, 0, 0, 0, 120, 80, 2, 80, 80, 2, 130, 120, 2, 70, 120, 2),
    *(0, 0, 0, 60, 160, 2, 112, 200, 2, 88, 200, 2, 112, 280, 2, 88, 280, 2, 112, 360, 2, 0, 0, 0),
]
COCO = {
    "info": {"year": 2026},
    "licenses": [],
    "images": [
        {"id": 7, "file_name": "000007.jpg", "width": 640, "height": 480},
        {"id": 9, "file_name": "000009.jpg", "width": 200, "height": 400},
    ],
    "annotations": [
        {
            "id": 1,
            "image_id": 7,
            "category_id": 17,
            "bbox": [64.0, 48.0, 128.0, 240.0],
            "iscrowd": 0,
            "area": 1.5,
            "segmentation": [[64, 48, 192, 48, 192, 288, 64, 288]],
        },
        {"id": 2, "image_id": 9, "category_id": 1, "bbox": [60, 36, 70, 324], "keypoints": PERSON, "num_keypoints": 13},
        {"id": 3, "image_id": 7, "category_id": 62, "bbox": [320, 240, 320.4, 240]},
    ],
    "categories": CATEGORIES,
}
LMD = """Caption: A realistic photo of a gray cat and an orange dog on the grass
Objects: [('a gray cat', [64, 128, 128, 256]), ('an orange dog', [256, 128, 192, 320])]
Background prompt: A realistic photo of a grassy area
Negative prompt: birds
"""
LMD_ANSWER = "[('a mug.', [128, 256, 256, 128])]\nBackground prompt: A wooden table\nNegative prompt: "
CSS = """Instruction: plan the layout. Each line should be like
"object {width: ?px; height: ?px; left: ?px; top: ?px; }".
The image is 64px wide and 64px high.

Prompt: two clocks and a potted plant
Layout:
clock1 {height: 16px; width: 32px; top: 8px; left: 0px; }
clock2 {height: 16px; width: 16px; top: 8px; left: 48px; }
potted-plant {width: 32px; height: 32px; left: 16px; top: 32px}
"""
INSTANCES = {
    "caption": "a Corgi next to a cupcake",
    "width": 512,
    "height": 256,
    "annos": [
        {"bbox": [128, 64, 256, 128], "mask": [], "category_name": "dog", "caption": "a Corgi"},
        {"bbox": [0, 192, 600, 64], "category_name": "cupcake", "caption": "a close up of chocolate"},
    ],
}
GLIGEN = """dict(
    ckpt = "../gligen_checkpoints/checkpoint_generation_text.pth",
    prompt = "a teddy bear sitting next to a bird",
    phrases = ['a teddy bear', 'a bird'],
    locations = [ [0.0,0.09,0.33,0.76], [0.55,0.11,1.0,0.8] ],
    alpha_type = [0.3, 0.0, 0.7],
),
"""
AUTHORS = """# two corgis
python inference_layout.py  --no_gpt --user_prompt 'Two cute small corgi near a lake.' \\
    --object "['a corgi', 'a corgi', 'a lake']" \\
    --boundingbox "[[0.05, 0.05, 0.5, 0.6], [0.5, 0.05, 1.0, 0.6], [0, 0, 1, 1]]" --token_location "[4, 4, 7]"
"""
AUTHORS_ANSWER = """Caption: A bee is buzzing around a flower
Objects: [('a bee', [0.2, 0.2, 0.4, 0.8]), ('a flower', [0.5, 0.1, 0.7, 0.3])]
Position: [2, 7]
"""
WORKFLOW = {
    "3": {"class_type": "KSampler", "inputs": {"positive": ["12", 0], "latent_image": ["5", 0], "seed": 1}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 256, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a wolf and a girl in a forest", "clip": ["4", 1]}},
    "11": {
        "class_type": "GLIGENTextBoxApply",
        "inputs": {"text": "a girl", "width": 128, "height": 192, "x": 64, "y": 32, "conditioning_to": ["6", 0]},
    },
    "12": {
        "class_type": "GLIGENTextBoxApply",
        "inputs": {"text": "a wolf", "width": 256, "height": 128, "x": 256, "y": 128, "conditioning_to": ["11", 0]},
    },
}
SAVED_WORKFLOW = {
    "last_node_id": 12,
    "nodes": [
        {"id": 5, "type": "EmptyLatentImage", "widgets_values": [512, 256, 1]},
        {"id": 6, "type": "CLIPTextEncode", "widgets_values": ["a wolf in a forest"]},
        {
            "id": 12,
            "type": "GLIGENTextBoxApply",
            "mode": 0,
            "widgets_values": ["a wolf", 256, 128, 256, 128],
            "inputs": [{"name": "conditioning_to", "type": "CONDITIONING", "link": 9}, {"name": "clip", "link": None}],
        },
        {"id": 13, "type": "GLIGENTextBoxApply", "mode": 4, "widgets_values": ["bypassed", 64, 64, 0, 0]},
    ],
    "links": [[9, 6, 0, 12, 0, "CONDITIONING"]],
}
IDEOGRAM = {
    "high_level_description": "a poster of a red ball",
    "compositional_deconstruction": {
        "background": "white",
        "elements": [{"type": "obj", "bbox": [500, 100, 900, 400], "desc": "red ball"}, {"type": "obj", "desc": "air"}],
    },
}

GEMINI = [{"box_2d": [250, 125, 750, 500], "label": "a cat"}]  # top, left, bottom, right of 0 to 1000
QWEN = [{"bbox_2d": [64, 128, 256, 384], "label": "a cat"}]  # left, top, right, bottom in pixels
ROBOFLOW = [{"x": 160, "y": 256, "width": 192, "height": 256, "class": "cat", "confidence": 0.9, "detection_id": "a"}]


def annotated(**annotation: Any) -> dict[str, Any]:
    """A COCO file of a picture of 640x480 with a cat from a tenth to three tenths of each side, and what is given."""
    cat = {"image_id": 7, "category_id": 17, "bbox": [64, 48, 128, 96], "iscrowd": 0, "segmentation": [], **annotation}
    return {"images": COCO["images"][:1], "annotations": [{"id": 1, **cat}], "categories": CATEGORIES}


# file, how it is read, and its prompt and (phrase, box) of its objects
FILES: dict[str, tuple[Any, dict[str, Any], str | None, list[tuple[str, tuple[float, ...]]]]] = {
    "coco, by id": (COCO, {"entry": "7"}, None, [("cat", (0.1, 0.1, 0.3, 0.6)), ("chair", (0.5, 0.5, 1, 1))]),
    "coco, by file": (COCO, {"entry": "000009.jpg"}, None, [("person", (0.3, 0.09, 0.65, 0.9))]),
    "coco, of one image": (
        {**COCO, "images": COCO["images"][:1]},
        {"prompt": "a cat on a chair"},
        "a cat on a chair",
        [("cat", (0.1, 0.1, 0.3, 0.6)), ("chair", (0.5, 0.5, 1, 1))],
    ),
    "coco, mask": (
        COCO,
        {"entry": 7, "place": "mask"},
        None,
        [("cat", (0.1, 0.1, 0.3, 0.6)), ("chair", (0.5, 0.5, 1, 1))],
    ),
    "coco, pose": (COCO, {"entry": 9, "place": "keypoints"}, None, [("person", (0.3, 0.09, 0.65, 0.9))]),
    "coco, of a pose without points": (
        annotated(keypoints=[]),
        {"place": "box"},
        None,
        [("cat", (0.1, 0.1, 0.3, 0.3))],
    ),
    "coco, of a hand": (annotated(keypoints=[1, 2, 2] * 21), {}, None, [("cat", (0.1, 0.1, 0.3, 0.3))]),
    "coco, of an empty polygon": (
        annotated(segmentation=[[]]),
        {"place": "mask"},
        None,
        [("cat", (0.1, 0.1, 0.3, 0.3))],
    ),
    "coco, of a damaged mask": (
        annotated(segmentation={"size": [480, 640], "counts": "what"}),
        {},
        None,
        [("cat", (0.1, 0.1, 0.3, 0.3))],
    ),
    "coco, of a mask that is none": (annotated(segmentation="?"), {}, None, [("cat", (0.1, 0.1, 0.3, 0.3))]),
    "coco, of a large picture": (
        {
            **annotated(bbox=[1500, 900, 3000, 4500], segmentation=[[1500, 900, 4500, 900, 4500, 5400]]),
            "images": [{"id": 7, "width": 12000, "height": 9000}],
        },
        {},
        None,
        [("cat", (0.125, 0.1, 0.375, 0.6))],
    ),
    "coco, a mask without a box": (
        annotated(bbox=[], segmentation=[[64, 48, 192, 48, 192, 288, 64, 288]]),
        {},
        None,
        [("cat", (0.1, 0.1, 0.3, 0.6))],
    ),
    "coco, of an image of no size": (
        {**annotated(), "images": [{"id": 7, "width": 1, "height": 1}]},
        {"size": (640, 480)},
        None,
        [("cat", (0.1, 0.1, 0.3, 0.3))],
    ),
    "lmd": (
        LMD,
        {},
        "A realistic photo of a gray cat and an orange dog on the grass",
        [("a gray cat", (0.125, 0.25, 0.375, 0.75)), ("an orange dog", (0.5, 0.25, 0.875, 0.875))],
    ),
    "lmd, an answer": (LMD_ANSWER, {}, "A wooden table with a mug", [("a mug", (0.25, 0.5, 0.75, 0.75))]),
    "lmd, a cache": (
        {"A mug on a table": [LMD_ANSWER], "A cup": [LMD_ANSWER.replace("mug", "cup")]},
        {"entry": "A cup"},
        "A cup",
        [("a cup", (0.25, 0.5, 0.75, 0.75))],
    ),
    "lmd, a specification": (
        {"prompt": "a mug", "gen_boxes": [["a mug", [128, 256, 256, 128]]], "bg_prompt": "A table"},
        {},
        "a mug",
        [("a mug", (0.25, 0.5, 0.75, 0.75))],
    ),
    "lmd, dictionaries": (
        "Objects: [{'name': 'a mug', 'bounding_box': [128, 256, 256, 128]}]\nBackground prompt: A table",
        {},
        "A table with a mug",
        [("a mug", (0.25, 0.5, 0.75, 0.75))],
    ),
    "lmd, of 256": (
        LMD_ANSWER,
        {"size": (1024, 1024)},
        "A wooden table with a mug",
        [("a mug", (0.125, 0.25, 0.375, 0.375))],
    ),
    "layoutgpt": (
        CSS,
        {},
        "two clocks and a potted plant",
        [
            ("clock", (0, 0.125, 0.5, 0.375)),
            ("clock", (0.75, 0.125, 1, 0.375)),
            ("potted plant", (0.25, 0.5, 0.75, 1)),
        ],
    ),
    "layoutgpt, one line": (
        "teddy-bear {height: 128px; width: 64px; top: 64px; left: 128px; }",
        {"size": (256, 256)},
        None,
        [("teddy bear", (0.5, 0.25, 0.75, 0.75))],
    ),
    "layoutgpt, parsed": (
        [
            {"query_id": 5, "iter": 0, "prompt": "a dog", "object_list": [["dog", [0.1, 0.2, 0.3, 0.9]], [None, None]]},
            {"query_id": 6, "iter": 0, "prompt": "a cow", "object_list": [["cow", [0.1, 0.2, 0.5, 0.6]]]},
        ],
        {"entry": "6"},
        "a cow",
        [("cow", (0.1, 0.2, 0.5, 0.6))],
    ),
    "layoutgpt, NSR-1K counting": (
        [
            {
                "id": 3,
                "image_id": 8,
                "num_object": [["cow", 1]],
                "prompt": "a cow",
                "object_list": [["cow", [0.1, 0.2, 0.5, 0.6]]],
            }
        ],
        {},
        "a cow",
        [("cow", (0.1, 0.2, 0.6, 0.8))],
    ),
    "layoutgpt, NSR-1K spatial": (
        {
            "id": 3,
            "obj1": ["cow", [0, 0.5, 0.4, 0.5]],
            "obj2": ["dog", [0.5, 0.5, 0.25, 0.25]],
            "prompt": "a cow by a dog",
        },
        {},
        "a cow by a dog",
        [("cow", (0, 0.5, 0.4, 1)), ("dog", (0.5, 0.5, 0.75, 0.75))],
    ),
    "instancediffusion": (
        INSTANCES,
        {},
        "a Corgi next to a cupcake",
        [("a Corgi", (0.25, 0.25, 0.75, 0.75)), ("cupcake", (0, 0.75, 1, 1))],
    ),
    "instancediffusion, mask": (
        {
            "caption": "a dot",
            "width": 5,
            "height": 4,
            "annos": [{"caption": "a dot", "bbox": [0, 0, 5, 4], "mask": {"size": [4, 5], "counts": "52207"}}],
        },
        {"place": "mask"},
        "a dot",
        [("a dot", (0.2, 0.25, 0.6, 0.75))],
    ),
    "instancediffusion, a damaged mask": (
        {**INSTANCES, "annos": [{**INSTANCES["annos"][0], "mask": {"size": [512, 256], "counts": [0, 131072]}}]},
        {},
        "a Corgi next to a cupcake",
        [("a Corgi", (0.25, 0.25, 0.75, 0.75))],
    ),
    "instancediffusion, blank": (
        {**INSTANCES, "annos": [*INSTANCES["annos"], {"bbox": [0, 256, 0, 0], "mask": [], "caption": "a cloud"}]},
        {},
        "a Corgi next to a cupcake",
        [("a Corgi", (0.25, 0.25, 0.75, 0.75)), ("cupcake", (0, 0.75, 1, 1))],
    ),
    "gligen": (
        GLIGEN,
        {},
        "a teddy bear sitting next to a bird",
        [("a teddy bear", (0, 0.09, 0.33, 0.76)), ("a bird", (0.55, 0.11, 1, 0.8))],
    ),
    "gligen, JSON of several": (
        [
            {"prompt": "x", "phrases": ["x"], "locations": [[0, 0, 1, 1]]},
            {"prompt": "y", "phrases": ["y"], "locations": [[0, 0, 0.5, 1]]},
        ],
        {"entry": 1},
        "y",
        [("y", (0, 0, 0.5, 1))],
    ),
    "gligen, diffusers": (
        "{'prompt': 'a cake', 'gligen_phrases': ['a cake'], 'gligen_boxes': [(0.1, 0.6, 0.9, 0.9)]}",
        {},
        "a cake",
        [("a cake", (0.1, 0.6, 0.9, 0.9))],
    ),
    "gligen, pixels": (
        {"prompt": "a cake", "phrases": ["a cake"], "locations": [[64, 128, 256, 384]]},
        {"size": (512, 512)},
        "a cake",
        [("a cake", (0.125, 0.25, 0.5, 0.75))],
    ),
    "realcompo": (
        AUTHORS,
        {},
        "Two cute small corgi near a lake.",
        [("a corgi", (0.05, 0.05, 0.5, 0.6)), ("a corgi", (0.5, 0.05, 1, 0.6)), ("a lake", (0, 0, 1, 1))],
    ),
    "realcompo, among other commands": (
        f"# the authors' way\n{AUTHORS}python inference_keypoint.py --user_prompt 'Elsa' --token_location '[1]'\n"
        + AUTHORS.replace("corgi", "cat"),
        {"entry": 1},
        "Two cute small cat near a lake.",
        [("a cat", (0.05, 0.05, 0.5, 0.6)), ("a cat", (0.5, 0.05, 1, 0.6)), ("a lake", (0, 0, 1, 1))],
    ),
    "realcompo, an option a line": (
        "--object=\"['a bee']\"\n--boundingbox='[[0.2, 0.2, 0.4, 0.8]]'\n--token_location '[2]'\n--user_prompt 'a bee'",
        {},
        "a bee",
        [("a bee", (0.2, 0.2, 0.4, 0.8))],
    ),
    "realcompo, an answer": (
        AUTHORS_ANSWER,
        {},
        "A bee is buzzing around a flower",
        [("a bee", (0.2, 0.2, 0.4, 0.8)), ("a flower", (0.5, 0.1, 0.7, 0.3))],
    ),
    "realcompo, an answer that starts with its list": (
        "[('a bee', [0.2, 0.2, 0.4, 0.8]), ('a flower', [0.5, 0.1, 0.7, 0.3])]\nPosition: [2, 7]\n",
        {"tool": "realcompo", "prompt": "A bee is buzzing around a flower"},
        "A bee is buzzing around a flower",
        [("a bee", (0.2, 0.2, 0.4, 0.8)), ("a flower", (0.5, 0.1, 0.7, 0.3))],
    ),
    "realcompo, JSON": (
        {"user_prompt": "a bee", "phrases": ["a bee"], "boundingbox": [[0.2, 0.2, 0.4, 0.8]], "token_location": [2]},
        {},
        "a bee",
        [("a bee", (0.2, 0.2, 0.4, 0.8))],
    ),
    "comfyui, a workflow": (
        WORKFLOW,
        {},
        "a wolf and a girl in a forest",
        [("a girl", (0.125, 0.125, 0.375, 0.875)), ("a wolf", (0.5, 0.5, 1, 1))],
    ),
    "comfyui, posted": (
        {"prompt": WORKFLOW, "client_id": "1"},
        {},
        "a wolf and a girl in a forest",
        [("a girl", (0.125, 0.125, 0.375, 0.875)), ("a wolf", (0.5, 0.5, 1, 1))],
    ),
    "comfyui, saved": (SAVED_WORKFLOW, {}, "a wolf in a forest", [("a wolf", (0.5, 0.5, 1, 1))]),
    "comfyui, Ideogram": (IDEOGRAM, {}, "a poster of a red ball", [("red ball", (0.1, 0.5, 0.4, 0.9))]),
    "comfyui, points editor": (
        [{"startX": 256, "startY": 384, "endX": 64, "endY": 128}],
        {"size": (512, 512), "phrases": ["a cat"]},
        None,
        [("a cat", (0.125, 0.25, 0.5, 0.75))],
    ),
    "comfyui, bounding boxes": (
        [[{"x": 64, "y": 128, "width": 192, "height": 256}]],
        {"tool": "comfyui", "size": (512, 512), "boxes": "xywh", "phrases": ["a cat"]},
        None,
        [("a cat", (0.125, 0.25, 0.5, 0.75))],
    ),
    "comfyui, boxes of a middle": (
        ROBOFLOW,
        {"tool": "comfyui", "size": (512, 512), "boxes": "cxcywh"},
        None,
        [("cat", (0.125, 0.25, 0.5, 0.75))],
    ),
    "comfyui, fractions of a middle": (
        [{"x": 0.25, "y": 0.5, "w": 0.5, "h": 0.25, "label": "a cat"}],
        {"tool": "comfyui", "boxes": "cxcywh"},
        None,
        [("a cat", (0, 0.375, 0.5, 0.625))],
    ),
    "comfyui, Gemini": (
        GEMINI,
        {"tool": "comfyui", "boxes": "yxyx", "size": (1000, 1000)},
        None,
        [("a cat", (0.125, 0.25, 0.5, 0.75))],
    ),
    "comfyui, Gemini in a fence": (
        f"```json\n{json.dumps(GEMINI)}\n```\n",
        {"tool": "comfyui", "boxes": "yxyx", "size": (1000, 1000)},
        None,
        [("a cat", (0.125, 0.25, 0.5, 0.75))],
    ),
    "comfyui, Qwen": (
        QWEN,
        {"tool": "comfyui", "boxes": "xyxy", "size": (512, 512)},
        None,
        [("a cat", (0.125, 0.25, 0.5, 0.75))],
    ),
    "comfyui, fractions": (
        [{"x": 0.1, "y": 0.2, "w": 0.3, "h": 0.4, "desc": "a cat", "palette": []}],
        {},
        None,
        [("a cat", (0.1, 0.2, 0.4, 0.6))],
    ),
    "comfyui, Florence2": (
        [{"bboxes": [[64, 128, 256, 384]], "labels": ["cat"]}],
        {"tool": "comfyui", "size": (512, 512)},
        None,
        [("cat", (0.125, 0.25, 0.5, 0.75))],
    ),
    "comfyui, detections": (
        [{"class": "CAT", "score": 0.9, "box": [64, 128, 192, 256]}],
        {"tool": "comfyui", "size": (512, 512), "boxes": "xywh"},
        None,
        [("CAT", (0.125, 0.25, 0.5, 0.75))],
    ),
    "comfyui, a list": (
        [[64, 128, 256, 384], [0, 0, 512, 512]],
        {"tool": "comfyui", "size": (512, 512), "boxes": "xyxy", "phrases": ["a cat", "a room"]},
        None,
        [("a cat", (0.125, 0.25, 0.5, 0.75)), ("a room", (0, 0, 1, 1))],
    ),
    "layout, pixels": (
        {"prompt": "a cat", "regions": [{"phrase": "a cat", "box": [64, 128, 256, 384]}]},
        {"size": (512, 512), "boxes": "xyxy"},
        "a cat",
        [("a cat", (0.125, 0.25, 0.5, 0.75))],
    ),
    "layout, 0 to 1000": (
        {"prompt": "a cat", "regions": [{"phrase": "a cat", "box": [250, 125, 750, 500]}]},
        {"size": (1000, 1000), "boxes": "yxyx"},
        "a cat",
        [("a cat", (0.125, 0.25, 0.5, 0.75))],
    ),
    "layout, centres": (
        {"regions": [{"phrase": "a cat", "bbox": [0.3125, 0.5, 0.375, 0.5]}]},
        {"boxes": "cxcywh"},
        None,
        [("a cat", (0.125, 0.25, 0.5, 0.75))],
    ),
}


def read(path: Path, *, tool: str | None = None, **how: Any) -> Layout:
    reader = getattr(Layout, f"from_{tool or 'tool'}")
    with warnings.catch_warnings(action="ignore"):
        return reader(path, **how)


@pytest.mark.parametrize("name", FILES)
def test_files(write: Callable[..., Path], name: str) -> None:
    content, how, prompt, wanted = FILES[name]
    layout = read(write(content), **how)
    assert (layout.prompt, places(layout)) == (prompt, wanted)


@pytest.mark.parametrize("name", FILES)
def test_files_are_read_alike_by_whose_they_are(write: Callable[..., Path], name: str) -> None:
    content, how, prompt, wanted = FILES[name]
    choices = Choices(**{key: value for key, value in how.items() if key != "tool"})
    with warnings.catch_warnings(action="ignore"):
        layout = read_tools_layout(write(content), name.split(",")[0], choices)
    assert (layout.prompt, places(layout)) == (prompt, wanted)


@pytest.mark.parametrize("name", FILES)
def test_what_is_read_by_its_tool_is_told_or_left_open(write: Callable[..., Path], name: str) -> None:
    """Reading it as another tool's is refused wherever it is told."""
    content, how, _, _ = FILES[name]
    own = name.split(",")[0]
    for tool in FORMATS:
        if tool == own or how.get("tool"):
            continue
        with pytest.raises(RealCompoError, match=f"Say so: python -m runtime convert .* --from {own} "):
            read_tools_layout(write(content), tool)


@pytest.mark.parametrize("name", FILES)
def test_layouts_are_read_back_as_they_were_written(write: Callable[..., Path], tmp_path: Path, name: str) -> None:
    content, how, _, _ = FILES[name]
    layout = read(write(content), **how)
    for path, written in layout_files(layout, tmp_path / "layout.json").items():
        path.write_bytes(written)
    found = Layout.from_file(tmp_path / "layout.json")
    assert (found.prompt, places(found)) == (layout.prompt, places(layout))
    assert [region.tokens for region in found.regions] == [region.tokens for region in layout.regions]


def test_tokens_of_the_authors_are_kept(write: Callable[..., Path]) -> None:
    assert [region.tokens for region in read(write(AUTHORS, "run.sh")).regions] == [[4], [4], [7]]


def test_people_of_coco_and_of_gligen_are_in_cocos_order(write: Callable[..., Path]) -> None:
    points = [[x / 200, y / 400] for x, y in zip(PERSON[::3], PERSON[1::3], strict=True)]
    demo = {"prompt": "A man waves", "locations": [points]}
    (man,) = read(write(demo), phrases=["a man"]).regions
    (person,) = read(write(COCO), entry=9, place="keypoints").regions
    for region in (man, person):
        assert region.keypoints is not None
        assert [i for i, point in enumerate(region.keypoints) if point is None] == [3, 4, 9, 16]
        assert region.keypoints[10] == (60 / 200, 160 / 400)


def test_a_polygons_mask_is_counted_by_pixels() -> None:
    """A triangle covers the pixels whose larger half it has; a square those inside it."""
    square = draw_polygons((8, 10), [[2, 3, 7, 3, 7, 6, 2, 6]], "x")
    assert np.argwhere(square).min(axis=0).tolist() == [3, 2]
    assert np.argwhere(square).max(axis=0).tolist() == [5, 6]
    assert square.sum() == 15
    triangle = draw_polygons((200, 200), [[0, 0, 200, 0, 0, 200]], "x")
    assert triangle.mean() == pytest.approx(0.5, abs=0.005)
    two = draw_polygons((4, 8), [[0, 0, 2, 0, 2, 4, 0, 4], [6, 0, 8, 0, 8, 4, 6, 4]], "x")
    assert two.any(axis=0).tolist() == [True, True, False, False, False, False, True, True]


def test_run_lengths_go_down_the_columns() -> None:
    """By hand: 5 zeros, 2 ones, 2, 2, 9; as text each number from the fourth on less the last but one: 5 2 2 0 7."""
    wanted = np.zeros((4, 5), dtype=bool)
    wanted[1:3, 1:3] = True
    for counts in ([5, 2, 2, 2, 9], "52207"):
        np.testing.assert_array_equal(decode_runs((4, 5), counts, "x"), wanted)
    # 20 takes two characters: its low five bits and a sign that more follow, 20 + 32 + 48 = "d", then "0".
    # -15 is 17 in five bits with the sign: 17 + 48 = "A".
    assert decode_runs((1, 46), "d0d01A", "x").ravel().tolist() == [False] * 20 + [True] * 20 + [False] + [True] * 5


NAMELESS = [{"x": 64, "y": 128, "width": 192, "height": 256}]
REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no file of any tool": ("hello", {}, "is no layout that is known; if it is one, say whose: --from coco, lmd"),
    "JSON that is cut off": ('{"images": [', {}, "Invalid JSON"),
    "a name twice": ('{"annos": [], "annos": [], "caption": "x"}', {}, "annos: given twice"),
    "several images": (
        COCO,
        {},
        r"has 2 pictures. Say which, as in: python -m runtime convert .* --from coco --entry 7 --out",
    ),
    "no such image": (COCO, {"entry": "8.jpg"}, "has no picture '8.jpg'"),
    "an image of nothing": ({**COCO, "annotations": []}, {"entry": 7}, "image 7 has no annotations"),
    "several images, the first of nothing": (
        {**COCO, "images": [{"id": 3, "width": 64, "height": 64}, *COCO["images"]]},
        {},
        "has 3 pictures. Say which, as in: .* --from coco --entry 7 --out",
    ),
    "several of one name": (
        {"a mug": [LMD_ANSWER, LMD_ANSWER.replace("mug", "cup")]},
        {},
        "has 2 pictures. Say which, as in: .* --from lmd --entry 0 --out",
    ),
    "crowds alone": (annotated(iscrowd=1), {}, "annotations: image 7 has crowds, and no objects"),
    "width and height of a mask": (
        annotated(segmentation={"size": [640, 480], "counts": [0, 307200]}),
        {"place": "mask"},
        r"annotations.0.segmentation: its size is \[640, 480\], and the image's \[480, 640\]; .* seem to be swapped",
    ),
    "a mask of another size": (
        {**INSTANCES, "annos": [{"caption": "x", "mask": {"size": [256, 256], "counts": [0, 65536]}}]},
        {},
        r"annos.0.mask: its size is \[256, 256\], and the image's \[256, 512\]; both are height, width",
    ),
    "a mask that is none": (annotated(segmentation="?"), {"place": "mask"}, "annotations.0: segmentation"),
    "a pose of a hand": (
        annotated(keypoints=[1, 2, 2] * 21),
        {"place": "keypoints"},
        "annotations.0.keypoints: it has 63 numbers; a person has",
    ),
    "a mask of a large picture": (
        {**annotated(segmentation=[[0, 0, 9, 0, 9, 9]]), "images": [{"id": 7, "width": 12000, "height": 9000}]},
        {"place": "mask"},
        "the image has 12000x9000 pixels; masks are drawn of at most 8192 a side; give --place box",
    ),
    "an unknown category": (
        {**COCO, "categories": []},
        {"entry": 7},
        "annotations.0.category_id: 17 is not among the file's categories",
    ),
    "captions": (
        {"images": COCO["images"][:1], "annotations": [{"id": 1, "image_id": 7, "caption": "a cat"}]},
        {},
        "image 7 has captions, and no objects",
    ),
    "corners for width and height": (
        {
            **COCO,
            "images": [{"id": 7, "width": 640, "height": 480}],
            "annotations": [{"image_id": 7, "category_id": 17, "bbox": [400, 300, 600, 460]}],
        },
        {},
        r"\[400, 300, 600, 460\] leaves the image as xywh, and all boxes fit as xyxy. .* coco --boxes xyxy --out",
    ),
    "a box of three": (
        {**COCO, "images": COCO["images"][:1], "annotations": [{"image_id": 7, "category_id": 17, "bbox": [1, 2, 3]}]},
        {},
        "annotations.0: bbox.3: Field required",
    ),
    "another size": (INSTANCES, {"size": (640, 480)}, "the file says 512x256, not 640x480; leave --size out"),
    "a list of COCO's detections": (
        [{"image_id": 7, "category_id": 17, "bbox": [1, 2, 3, 4], "score": 0.9}],
        {},
        "is a list of COCO's detections",
    ),
    "a point": (
        {**INSTANCES, "annos": [{"caption": "x", "point": [3, 4]}]},
        {},
        "annos.0: it has a point or a scribble, and no box",
    ),
    "a mask cut off": (
        {
            "caption": "x",
            "width": 5,
            "height": 4,
            "annos": [{"caption": "x", "mask": {"size": [4, 5], "counts": "522"}}],
        },
        {},
        "annos.0.mask: its runs have 9 pixels, and 5x4 are 20",
    ),
    "Objects alone": (
        "Objects: [('a cat', [1, 2, 30, 40])]",
        {},
        "to LMD, in pixels, or to RealCompo, in fractions. Say whose, as in: python .* --from lmd --out",
    ),
    "Objects alone, in fractions": (
        "Objects: [('a cat', [0.1, 0.2, 0.3, 0.4])]",
        {},
        "Say whose, as in: python .* --from realcompo --out",
    ),
    "Objects that are none": ("Objects: a cat\nBackground prompt: x", {}, "'a cat' is no list such as"),
    "fractions as LMD's": (
        "Objects: [('a cat', [0.1, 0.2, 0.3, 0.4])]\nBackground prompt: x",
        {},
        "seems to be fractions, not pixels of 512x512. If so: .* --from lmd --size 1x1 --out",
    ),
    "CSS of an unknown canvas": (
        "cat {height: 16px; width: 32px; top: 8px; left: 0px; }",
        {},
        r"does not say of which size the picture is. Add that: python .* --from layoutgpt --size WIDTHxHEIGHT --out",
    ),
    "CSS of a room": (
        "bed {length: 2m; height: 1m; width: 2m; depth: 1m; orientation: 0 degrees; left: 1m; top: 2m;}",
        {},
        "bed: it is furniture in a room",
    ),
    "CSS in percent": (CSS.replace("48px", "48%"), {}, "clock2: '48%' is no number of pixels"),
    "LayoutGPT's of no origin": (
        [{"prompt": "a cow", "object_list": [["cow", [0.1, 0.2, 0.5, 0.6]]]}],
        {},
        "does not say what its boxes' four numbers are: xyxy, xywh, yxyx, cxcywh. .* --from layoutgpt --boxes xyxy",
    ),
    "GLIGEN in pixels": (
        {"prompt": "x", "phrases": ["x"], "locations": [[64, 128, 256, 384]]},
        {},
        r"locations.0: \[64, 128, 256, 384\] is no fraction .* --from gligen --size WIDTHxHEIGHT --out",
    ),
    "GLIGEN with width and height": (
        {"prompt": "x", "phrases": ["x", "y"], "locations": [[0.6, 0.5, 0.3, 0.2], [0.1, 0.1, 0.5, 0.5]]},
        {},
        r"locations.0: \[0.6, 0.5, 0.3, 0.2\] is empty as xyxy, and all boxes fit as xywh. .* --boxes xywh --out",
    ),
    "GLIGEN with pictures": (
        {"prompt": "x", "phrases": ["x"], "images": ["clock.png"], "locations": [[0, 0, 1, 1]]},
        {},
        "images: a layout has no",
    ),
    "people without names": (
        {"prompt": "x", "locations": [[[0.1, 0.2]] * 16 + [[0.3, 0.4]]]},
        {},
        "locations.0: it has no name; give --phrase once for each .* --from gligen --phrase PHRASE --out",
    ),
    "people of 15 points": ({"prompt": "x", "locations": [[[0.1, 0.2]] * 15]}, {}, "locations.0: it has 15 points"),
    "fewer phrases than boxes": (
        {"prompt": "x", "phrases": ["x"], "locations": [[0, 0, 1, 1]] * 2},
        {},
        "1 for 2 locations; give one each",
    ),
    "fewer tokens than objects": (
        AUTHORS.replace("[4, 4, 7]", "[4, 7]"),
        {},
        "3 objects, 3 boxes and 2 token locations",
    ),
    "an option twice": (
        AUTHORS.replace("--token_location", "--user_prompt 'x' --token_location"),
        {},
        "--user_prompt: it is given twice; write one command a line",
    ),
    "an open quote": (AUTHORS.replace("lake.'", "lake."), {}, "is no shell command: No closing quotation"),
    "a workflow without boxes": ({"5": WORKFLOW["5"]}, {}, "has no GLIGENTextBoxApply node"),
    "a linked number": (
        {"5": WORKFLOW["5"], "11": {"class_type": "GLIGENTextBoxApply", "inputs": {"text": "a", "x": ["9", 0]}}},
        {},
        "11.inputs.x: it is no number",
    ),
    "boxes without names": (
        NAMELESS,
        {"tool": "comfyui", "size": (512, 512), "boxes": "xywh"},
        "0: it has no name; give --phrase once for each of the 1 .* --size 512x512 --boxes xywh --phrase PHRASE --out",
    ),
    "many boxes without names": (
        NAMELESS * 5,
        {},
        "is a list of boxes, as many tools write it, and cannot be converted: 0: it has no name; give --phrase once "
        "for each of the 5 objects$",
    ),
    "boxes of a corner or a middle": (
        ROBOFLOW,
        {"tool": "comfyui", "size": (512, 512)},
        "four numbers are: cxcywh, xywh. Say it, as in: .* --from comfyui --size 512x512 --boxes cxcywh --out",
    ),
    "fractions of a corner or a middle": (
        [{"x": 0.1, "y": 0.2, "w": 0.3, "h": 0.4, "label": "a cat"}],
        {},
        "a list of boxes, as many tools write it. If they are left, top, width, height: .* --boxes xywh --out",
    ),
    "boxes of Gemini's": (
        GEMINI,
        {},
        "seem to be Gemini's. If they are top, left, bottom, right, of 0 to 1000: "
        ".* --from comfyui --size 1000x1000 --boxes yxyx --out",
    ),
    "boxes of our own called bbox": (
        {"regions": [{"phrase": "a cat", "bbox": [0.1, 0.2, 0.3, 0.4]}]},
        {},
        "four numbers are: xywh, xyxy, yxyx, cxcywh. Say it, as in: .* --from layout --boxes xywh --out",
    ),
    "bbox and box": (
        {"regions": [{"phrase": "x", "box": [0, 0, 1, 1]}, {"phrase": "a cat", "bbox": [0.5, 0.5, 0.9, 0.9]}]},
        {},
        "four numbers are: xywh, xyxy, yxyx, cxcywh. Say it, as in: .* --from layout --boxes xyxy --out",
    ),
    "our own pixels": (
        {"regions": [{"phrase": "a cat", "box": [64, 128, 256, 384]}]},
        {},
        "is no fraction of the image. .* --from layout --size WIDTHxHEIGHT --boxes xyxy --out",
    ),
    "GLIGEN in pixels, with width and height": (
        {"prompt": "x", "phrases": ["x"], "locations": [[300, 200, 100, 90]]},
        {},
        r"locations.0: \[300, 200, 100, 90\] is no fraction .* --from gligen --size WIDTHxHEIGHT --boxes xywh --out",
    ),
    "fractions as LMD's, in corners": (
        "Objects: [('a cat', [0.5, 0.5, 0.9, 0.9])]\nBackground prompt: x",
        {},
        "seems to be fractions, not pixels of 512x512. If so: .* --from lmd --size 1x1 --boxes xyxy --out",
    ),
    "CSS of several pictures and no canvas": (
        CSS.split("\n\n")[1] + CSS.split("\n\n")[1].replace("clock", "vase"),
        {},
        "has 2 pictures. Say which, as in: .* --entry 'two clocks and a potted plant' --size WIDTHxHEIGHT --out",
    ),
    "what two things are wrong with": (
        {"prompt": "x", "phrases": ["x", "y"], "locations": [[64, 128, 256, 384], [9, 9, -5, -5]]},
        {},
        r"locations.1: \[9, 9, -5, -5\] has nothing inside the image; mend that box$",
    ),
    "another tool's, damaged": (
        {**COCO, "categories": []},
        {"tool": "lmd"},
        "is a COCO file, and cannot be converted: annotations.0.category_id: 17 is not among",
    ),
    "phrases for others": (NAMELESS, {"size": (512, 512), "phrases": ["a", "b"]}, "has 1 objects for 2 phrases"),
    "boxes without a size": (
        NAMELESS,
        {"phrases": ["a cat"], "tool": "comfyui", "boxes": "xywh"},
        r"--from comfyui --size WIDTHxHEIGHT --boxes xywh --phrase 'a cat' --out",
    ),
    "a plain list": (
        [[64, 128, 256, 384]],
        {},
        "a list of boxes, as many tools write it. If they are left, top, right, bottom: .* "
        "--from comfyui --size WIDTHxHEIGHT --boxes xyxy --phrase PHRASE --out",
    ),
    "a plain list of a known tool": (
        [[256, 128, 64, 384]],
        {"tool": "comfyui", "size": (512, 512), "phrases": ["x"]},
        "does not say what its boxes' four numbers are: .* --boxes xywh",
    ),
    "a box outside": (
        [[600, 128, 640, 384]],
        {"tool": "comfyui", "size": (512, 512), "boxes": "xyxy", "phrases": ["x"]},
        r"0: \[600, 128, 640, 384\] has nothing inside the image",
    ),
    "a layout with a mask that is not there": (
        {"regions": [{"phrase": "x", "mask": "x.png"}]},
        {},
        "regions.0: cannot read the mask",
    ),
    "a layout with two places": (
        {"regions": [{"phrase": "x", "box": [10, 20, 30, 40], "mask": "x.png"}]},
        {"size": (64, 64), "boxes": "xyxy"},
        "regions.0: box and mask are both given; give one",
    ),
    "an unknown form": (NAMELESS, {"boxes": "wh"}, "--boxes wh is unknown; use one of xyxy"),
    "an unknown place": (NAMELESS, {"place": "point"}, "--place point is unknown; use one of box, mask, keypoints"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_certain_is_refused_in_one_line(write: Callable[..., Path], name: str) -> None:
    content, how, message = REFUSED[name]
    path = write(content)
    with pytest.raises(RealCompoError, match=message) as refused:
        read(path, **how)
    said = str(refused.value).replace(str(path.parent), "")
    assert len(said.splitlines()) == 1
    assert len(said.split("python -m ")[0]) < 300
    assert str(path) in str(refused.value) or "unknown" in message


def parts(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to every value in a JSON value."""
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from parts(value[key], (*path, key))


def replaced(value: Any, path: tuple[Any, ...], part: Any) -> Any:
    if not path:
        return part
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], part)
    return copy


JUNK = [None, 5, -1, "x", "", [], {}, [[1]], [1, 2, 3, 4], True, 1e308, 10**30, {"a": 1}]


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_any_file_is_read_or_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Cut off, or with one of its values replaced."""
    name = data.draw(st.sampled_from(sorted(FILES)))
    content, how, _, _ = FILES[name]
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    if isinstance(content, str):
        path.write_text(content[: data.draw(st.integers(0, len(content)))])
    else:
        way = data.draw(st.sampled_from(list(parts(content))))
        path.write_text(json.dumps(replaced(content, way, data.draw(st.sampled_from(JUNK)))))
    try:
        read(path, **{"tool": name.split(",")[0], **how} if not name.startswith("layout,") else how)
    except RealCompoError as error:
        said = str(error).replace(str(path), "")
        assert len(said.splitlines()) == 1
        assert len(said.split("python -m ")[0]) < 400
        assert_command_works(str(error), path.parent)


def assert_command_works(refusal: str, folder: Path) -> None:
    """Of a refusal that names one, filled in with a size that holds anything."""
    command = refusal.partition("python -m runtime ")[2]
    if command:
        words = shlex.split(command.replace("WIDTHxHEIGHT", "10000000000x10000000000"))
        converted = CliRunner().invoke(app, [*words[:-1], f"{folder / 'converted.json'}"])
        assert converted.exit_code == 0, (refusal, converted.stderr)


def test_what_is_lost_is_said(write: Callable[..., Path]) -> None:
    with pytest.warns(UserWarning, match=r"give it to generate: --negative-prompt 'birds'"):
        Layout.from_lmd(write(LMD))
    with pytest.warns(UserWarning, match="1 of 2 boxes leave the image; they are cut at its edge"):
        Layout.from_instancediffusion(write(INSTANCES))
    with pytest.warns(UserWarning, match="1 of 1 objects have no width and no height; they are left out"):
        Layout.from_instancediffusion(write({**INSTANCES, "annos": [{"bbox": [0, 0, 0, 0], "caption": "a cloud"}]}))
    with pytest.warns(UserWarning, match="1 of 2 objects have no mask; they keep what they have"):
        Layout.from_coco(write(COCO), entry=7, place="mask")


def test_a_box_that_nobody_wants_is_in_nobodys_way(write: Callable[..., Path]) -> None:
    path = write(annotated(bbox=[700, 500, 10, 10], segmentation=[[64, 48, 192, 48, 192, 288, 64, 288]]))
    assert places(Layout.from_coco(path, place="mask")) == [("cat", (0.1, 0.1, 0.3, 0.6))]
    with pytest.raises(RealCompoError, match=r"\[700, 500, 10, 10\] has nothing inside the image"):
        Layout.from_coco(path)


@pytest.mark.parametrize("crowd", [1, True])
def test_crowds_are_no_objects(write: Callable[..., Path], crowd: Any) -> None:
    """A region of all people whom nobody told apart is left out, of COCO's objects and of what is made from them."""
    whole = {"size": [480, 640], "counts": [0, 307200]}
    people = {"image_id": 7, "category_id": 1, "bbox": [0, 0, 640, 480], "iscrowd": crowd, "segmentation": whole}
    coco = {**annotated(), "annotations": [people, *annotated()["annotations"]]}
    demo = {
        "caption": "a cat in a crowd",
        "width": 640,
        "height": 480,
        "annos": [{**people, "caption": "people"}, {"caption": "cat", "bbox": [64, 48, 128, 96], "iscrowd": 0}],
    }
    for content in (coco, demo):
        with pytest.warns(UserWarning, match="1 of 2 objects are crowds, and no single object; they are left out"):
            layout = Layout.from_tool(write(content))
        assert places(layout) == [("cat", (0.1, 0.1, 0.3, 0.3))]


LATIN = "Prompt: a café".encode("latin-1")
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\xff"


@pytest.mark.parametrize(
    "content",
    [LATIN, PNG, b'{"images": [', b"{'a': 1, 'a'", b'{"a": 1, "a": 2}', b'[{"box": NaN}]'],
    ids=["Latin", "PNG", "cut off", "Python cut off", "a name twice", "no number"],
)
@pytest.mark.parametrize("tool", [None, *FORMATS])
def test_a_damaged_file_is_named_once(tmp_path: Path, content: bytes, tool: str | None) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(content)
    with pytest.raises(RealCompoError) as refused:
        read_tools_layout(path, tool)
    assert str(refused.value).count(f"{path}") == 1


def test_texts_that_are_no_python_are_read_in_silence(write: Callable[..., Path]) -> None:
    """Python's parser warns of `0.5in` and of `1if`, which are no numbers to it."""
    inches = "Prompt: a cat\ncat {height: 0.5in; width: 21px; top: 1px; left: 0px; }\n"
    boxes = "Objects: [('a cat', [1, 2, 30, 40if])]\nBackground prompt: x"
    for content, problem in ((inches, "'0.5in' is no number of pixels"), (boxes, "is no list such as")):
        with warnings.catch_warnings(record=True) as heard, pytest.raises(RealCompoError, match=problem):
            warnings.simplefilter("always")
            Layout.from_tool(write(content), size=(64, 64))
        assert [str(one.message) for one in heard] == []


OURS = {
    "prompt": "x and y",
    "regions": [{"phrase": "x", "box": [0.1, 0.1, 0.5, 0.5]}, {"phrase": "y", "box": [0.6, 0.5, 0.3, 0.2]}],
}


@pytest.mark.parametrize(
    ("content", "command"),
    [
        (OURS, "--from layout --boxes xywh --out converted.json"),
        (
            {"regions": [{"phrase": "x", "box": [64, 128, 256, 384]}, {"phrase": "y", "box": [0, 0, 512, 512]}]},
            "--from layout --size WIDTHxHEIGHT --boxes xyxy --out converted.json",
        ),
        (
            {"regions": [{"phrase": "x", "box": [64, 128, 256, 84]}]},
            "--from layout --size WIDTHxHEIGHT --boxes xywh --out converted.json",
        ),
        (INSTANCES, "--from instancediffusion --out converted.json"),
        (
            [[64, 128, 256, 384]],
            "--from comfyui --size WIDTHxHEIGHT --boxes xyxy --phrase PHRASE --out converted.json",
        ),
        (
            {"regions": [{"phrase": "x", "bbox": [0.1, 0.1, 0.5, 0.5]}]},
            "--from layout --boxes xywh --out converted.json",
        ),
        (COCO, "--from coco --entry 7 --out converted.json"),
        (WORKFLOW, "--from comfyui --out converted.json"),
        (GLIGEN, "--from gligen --out converted.json"),
        (LMD, "--from lmd --out converted.json"),
    ],
)
def test_layouts_that_are_not_ours_are_refused_with_the_command(
    write: Callable[..., Path], content: Any, command: str
) -> None:
    path = write(content, "layout.json")
    with pytest.raises(RealCompoError) as refused:
        Layout.from_file(path)
    assert f"python -m runtime convert {path} {command}" in str(refused.value)


@pytest.mark.parametrize("boxes", [[64, 128, 256, 384], [0.125, 0.25, 0.375, 0.5]])
def test_all_that_is_no_box_is_kept(write: Callable[..., Path], tmp_path: Path, boxes: list[float]) -> None:
    """A layout of every field, with boxes of another kind: pixels, or a corner, width and height."""
    y, x = np.mgrid[:64, :96]
    disk = (x - 40) ** 2 + (y - 30) ** 2 < 200
    lines = np.where((x + y) % 24 == 0, 255, 0).astype(np.uint8)
    pictures = {
        "disk.png": np.where(disk, 255, 0).astype(np.uint8),
        "labels.png": np.where(x < 32, 3, 5).astype(np.uint8),
        "depth.png": (x * 0.7 + y * 0.1).astype(np.uint8),  # ends at 73
        "edges.png": lines,
    }
    for name, values in pictures.items():
        Image.fromarray(values).save(tmp_path / name)
    person = {"pose_keypoints_2d": [number for i in range(18) for number in (0.1 + i / 40, 0.9 - i / 40, 1)]}
    (tmp_path / "pose.json").write_text(json.dumps({"people": [{"pose_keypoints_2d": None}, person]}))
    content = {
        "$schema": "docs/layout.schema.json",
        "prompt": "all",
        "regions": [
            {"phrase": "a cat", "box": boxes, "layer": 2, "tokens": [3], "label": 7},
            {"phrase": "a disk", "mask": "disk.png", "layer": 1},
            {"phrase": "a line", "keypoints": [[0.25, 0.5], None, [0.75, 0.25]]},
            {"phrase": "a man", "openpose": "pose.json", "person": 1},
            {"phrase": "a wall", "label": 3},
        ],
        "segmentation": "labels.png",
        "depth": "depth.png",
        "background": 9,
        "control": {"canny": "edges.png"},
    }
    size, form = ((512, 512), "xyxy") if boxes[0] > 1 else (None, "xywh")
    converted = Layout.from_tool(write(content), size=size, boxes=form)
    for path, written in layout_files(converted, tmp_path / "new.json").items():
        path.write_bytes(written)
    for layout in (converted, Layout.from_file(tmp_path / "new.json")):
        cat, a_disk, line, man, wall = layout.regions
        assert (layout.prompt, layout.background) == ("all", 9)
        assert (cat.box, cat.layer, cat.tokens, cat.label) == ((0.125, 0.25, 0.5, 0.75), 2, [3], 7)
        np.testing.assert_array_equal(a_disk.mask, disk)
        assert a_disk.layer == 1
        assert line.keypoints == ((0.25, 0.5), None, (0.75, 0.25))
        assert man.bounding_box() == pytest.approx((0.1, 0.9 - 17 / 40, 0.1 + 17 / 40, 0.9))
        np.testing.assert_array_equal(wall.mask, x < 32)
        np.testing.assert_array_equal(layout.segmentation, pictures["labels.png"])
        np.testing.assert_allclose(layout.depth, pictures["depth.png"] / 255, atol=1e-6)
        np.testing.assert_array_equal(layout.control["canny"], np.dstack([lines] * 3))


def test_a_pose_in_pixels_is_mended_with_the_boxes(write: Callable[..., Path]) -> None:
    regions = [
        {"phrase": "a cat", "box": [64, 128, 256, 384]},
        {"phrase": "a line", "keypoints": [[128, 64], None, [384, 256]]},
    ]
    layout = Layout.from_tool(write({"regions": regions}), size=(512, 512), boxes="xyxy")
    assert places(layout) == [("a cat", (0.125, 0.25, 0.5, 0.75)), ("a line", (0.25, 0.125, 0.75, 0.5))]


def test_a_mended_layout_is_what_was_meant(write: Callable[..., Path]) -> None:
    layout = Layout.from_tool(write(OURS), boxes="xywh")
    assert places(layout) == [("x", (0.1, 0.1, 0.6, 0.6)), ("y", (0.6, 0.5, 0.9, 0.7))]


def test_single_slips_keep_their_own_words(write: Callable[..., Path]) -> None:
    """Neither pixels nor width and height: one edge is wrong."""
    regions = [{"phrase": "x", "box": [0.1, 0.1, 0.5, 0.5]}, {"phrase": "y", "box": [0.6, 0.5, 1.4, 0.9]}]
    with pytest.raises(RealCompoError, match=r"regions.1.box: the box of 'y' is .* fractions of the image, 0 to 1"):
        Layout.from_file(write({"regions": regions}, "layout.json"))


def test_masks_are_written_as_pictures(write: Callable[..., Path], tmp_path: Path) -> None:
    layout = read(write(COCO), entry=7, place="mask")
    files = layout_files(layout, tmp_path / "scene.json")
    assert [path.name for path in files] == ["scene-0.png", "scene.json"]
    for path, content in files.items():
        path.write_bytes(content)
    mask = np.asarray(Image.open(tmp_path / "scene-0.png"))
    assert mask.shape == (480, 640)
    assert mask.sum() == 255 * 128 * 240
