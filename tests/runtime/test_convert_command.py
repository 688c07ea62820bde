"""`convert` as a user runs it: what is printed and written, exit codes, and one line for every mistake."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from runtime import Layout
from runtime.__main__ import app

ANSWER = """Caption: a cat and two mugs on a table
Objects: [('a cat', [64, 128, 128, 256]), ('a mug', [256, 128, 192, 320]), ('a lamp', [0, 400, 64, 112])]
Background prompt: a table
Negative prompt: dogs
"""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["convert", *map(str, arguments)])


@pytest.fixture
def answer(tmp_path: Path) -> Path:
    path = tmp_path / "answer.txt"
    path.write_text(ANSWER)
    return path


@pytest.mark.parametrize("whose", [(), ("--from", "lmd")])
def test_a_converted_layout_is_read(answer: Path, tmp_path: Path, whose: tuple[str, ...]) -> None:
    out = tmp_path / "new" / "layout.json"
    result = run(answer, *whose, "--out", out)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [f"{out}"]
    assert result.stderr.splitlines() == [
        f"warning: {answer}: a layout has no negative prompt; give it to generate: --negative-prompt 'dogs'",
        "warning: the prompt does not have a lamp; mend the phrase or the prompt",
    ]
    layout = Layout.from_file(out)
    assert layout.prompt == "a cat and two mugs on a table"
    assert [region.box for region in layout.regions][:2] == [(0.125, 0.25, 0.375, 0.75), (0.5, 0.25, 0.875, 0.875)]


def test_masks_stand_beside_the_layout(tmp_path: Path) -> None:
    file = tmp_path / "demo.json"
    instance = {"caption": "a dot", "bbox": [1, 1, 2, 2], "mask": {"size": [4, 5], "counts": "52207"}}
    file.write_text(json.dumps({"caption": "a dot", "width": 5, "height": 4, "annos": [instance]}))
    result = run(file, "--place", "mask", "--out", tmp_path / "layout.json")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [f"{tmp_path / 'layout-0.png'}", f"{tmp_path / 'layout.json'}"]
    mask = np.zeros((4, 5), dtype=np.uint8)
    mask[1:3, 1:3] = 255
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "layout-0.png")), mask)


CAT = {"phrase": "a cat", "box": [64, 128, 256, 384]}
COCO = {
    "images": [{"id": 1, "width": 512, "height": 512}, {"id": 2, "width": 512, "height": 512}],
    "annotations": [{"image_id": 2, "category_id": 17, "bbox": [64, 128, 192, 256]}],
    "categories": [{"id": 17, "name": "cat"}],
}
CORNERS = {
    **COCO,
    "images": COCO["images"][1:],
    "annotations": [{"image_id": 2, "category_id": 17, "bbox": box} for box in (CAT["box"], [300, 300, 500, 500])],
}
GLIGEN = {"prompt": "a cat", "phrases": ["a cat"]}
CSS = "Prompt: a cat\ncat {left: 64px; top: 128px; width: 192px; height: 256px; }\n"
NAMELESS = [{"x": 64, "y": 128, "width": 192, "height": 256}]
ROBOFLOW = [{"x": 160, "y": 256, "width": 192, "height": 256, "class": "cat", "confidence": 0.9}]
LAYOUTGPT = [{"prompt": "a cat", "object_list": [["cat", [0.125, 0.25, 0.5, 0.75]]]}]
QUARTERS = (0.125, 0.25, 0.5, 0.75)  # of the boxes above, in a picture of 512x512

# What is refused: the command, a file, and what is said besides it; the file's picture is of 512x512
REFUSED = {
    "our own pixels": ("show", {"regions": [CAT]}, (), "Mend it, with the size"),
    "our own pixels with all sorts": (
        "show",
        {"regions": [{**CAT, "layer": 1, "tokens": [2], "label": 3}], "background": 5},
        (),
        "Mend it, with the size",
    ),
    "our own pixels, corner, width and height": (
        "show",
        {"regions": [{"phrase": "a cat", "box": [64, 128, 192, 256]}, {"phrase": "x", "box": [300, 300, 50, 60]}]},
        (),
        "--size WIDTHxHEIGHT --boxes xywh",
    ),
    "our own fractions, corner, width and height": (
        "show",
        {"regions": [{"phrase": "a cat", "box": [0.125, 0.25, 0.375, 0.5]}, {"phrase": "x", "box": [0.5, 0, 0.2, 1]}]},
        (),
        "all boxes fit as x, y, width, height",
    ),
    "our own bbox": ("show", {"regions": [{"phrase": "a cat", "bbox": [0.125, 0.25, 0.375, 0.5]}]}, (), "If they are"),
    "our own bbox in pixels": ("show", {"regions": [{"phrase": "a cat", "bbox": [64, 128, 192, 256]}]}, (), "did you"),
    "our own bbox, converted": (
        "convert",
        {"regions": [{"phrase": "a cat", "bbox": [0.125, 0.25, 0.375, 0.5]}]},
        (),
        "Say it, as in",
    ),
    "our own pixels, converted": ("convert", {"regions": [CAT]}, (), "If boxes are pixels"),
    "our own pixels, with a size": ("convert", {"regions": [CAT]}, ("--size", "512x512"), "Say it, as in"),
    "a COCO file as ours": ("show", COCO, (), "is a COCO file, no layout of ours. Convert it"),
    "a COCO file as LMD's": ("convert", COCO, ("--from", "lmd", "--size", "9x9"), "is a COCO file. Say so"),
    "several pictures": ("convert", COCO, ("--prompt", "a cat's nap"), "has 2 pictures. Say which"),
    "COCO's corners": ("convert", CORNERS, (), "leaves the image as xywh"),
    "CSS without a canvas": ("convert", CSS, (), "Add that"),
    "CSS of several pictures without a canvas": ("convert", CSS + CSS.replace("a cat", "a dog"), (), "Say which"),
    "GLIGEN in pixels": ("convert", {**GLIGEN, "locations": [CAT["box"]]}, (), "is no fraction of the image"),
    "GLIGEN in pixels, of width and height": (
        "convert",
        {"prompt": "x", "phrases": ["a cat", "x"], "locations": [[64, 128, 192, 256], [300, 300, 50, 60]]},
        (),
        "--size WIDTHxHEIGHT --boxes xywh",
    ),
    "LMD in fractions": (
        "convert",
        "Objects: [('a cat', [0.125, 0.25, 0.375, 0.5])]\nBackground prompt: x",
        (),
        "seems to be fractions",
    ),
    "LMD in fractions, as corners": (
        "convert",
        "Objects: [('a cat', [0.125, 0.25, 0.5, 0.75]), ('x', [0.6, 0.6, 0.9, 0.9])]\nBackground prompt: x",
        (),
        "--size 1x1 --boxes xyxy",
    ),
    "LMD's or RealCompo's": ("convert", "Objects: [('a cat', [64, 128, 192, 256])]", (), "Say whose"),
    "RealCompo's or LMD's": ("convert", "Objects: [('a cat', [0.125, 0.25, 0.5, 0.75])]", (), "--from realcompo"),
    "an LMD answer that starts with its list": (
        "show",
        "[('a cat', [64, 128, 192, 256])]\nBackground prompt: x",
        (),
        "is an LMD file",
    ),
    "an answer of either's that starts with its list": (
        "convert",
        "[('a cat', [0.125, 0.25, 0.5, 0.75])]\nPosition: [2]",
        (),
        "--from realcompo",
    ),
    "LayoutGPT's of no origin": ("convert", LAYOUTGPT, (), "does not say what its boxes' four numbers are"),
    "people without names": (
        "convert",
        {"prompt": "x", "locations": [[[0.125, 0.25]] * 16 + [[0.5, 0.75]]]},
        (),
        "name",
    ),
    "boxes without names": ("convert", NAMELESS, (), "--size WIDTHxHEIGHT --boxes xywh --phrase PHRASE"),
    "boxes without names, of a known tool": ("convert", NAMELESS, ("--from", "comfyui"), "give --phrase once"),
    "boxes of a middle": ("convert", ROBOFLOW, (), "If they are the middle, width and height"),
    "boxes of a middle as ours": ("show", ROBOFLOW, (), "If they are the middle, width and height"),
    "a plain list": ("convert", [CAT["box"]], (), "If they are left, top, right, bottom"),
    "a list in a fence": ("convert", f"```json\n{[CAT['box']]}\n```", (), "If they are left, top, right, bottom"),
    "Gemini's": ("convert", [{"box_2d": [250, 125, 750, 500], "label": "cat"}], (), "If they are top, left, bottom"),
    "Qwen's": ("convert", [{"bbox_2d": CAT["box"], "label": "cat"}], (), "If they are left, top, right, bottom"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_command_of_a_refusal_converts_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """As a user who copies it, and fills in the size."""
    command, content, options, said = REFUSED[name]
    monkeypatch.chdir(tmp_path)
    Path("what's it.json").write_text(content if isinstance(content, str) else json.dumps(content))
    refused = CliRunner().invoke(app, [command, "what's it.json", *options, "--out", "x.png"])
    (line,) = refused.stderr.splitlines()
    assert refused.exit_code == 2
    assert len(line) < 300
    assert said in line
    words = shlex.split(line.partition("python -m runtime ")[2].replace("WIDTHxHEIGHT", "512x512"))
    converted = CliRunner().invoke(app, words)
    assert converted.exit_code == 0, converted.stderr
    layout = Layout.from_file("layout.json")
    assert layout.regions[0].bounding_box() == QUARTERS
    assert layout.regions[0].phrase in ("a cat", "cat", "PHRASE")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--from", "yolo"), "--from yolo is unknown; use one of coco, lmd, layoutgpt"),
        (("--from", "coco"), "is an LMD file. Say so: python -m runtime convert"),
        (("--size", "512"), "--size 512 is no size; give WIDTHxHEIGHT, as in 640x480"),
        (("--size", "0x512"), "--size 0x512 is no width and height above 0"),
        (("--entry", "dog"), "it has no picture 'dog'"),
        (("--phrase", "a cat"), "it has 3 objects for 1 phrases; give --phrase once an object"),
    ],
)
def test_mistakes_are_one_line(answer: Path, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    result = run(answer, *arguments, "--out", tmp_path / "layout.json")
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = [line for line in result.stderr.splitlines() if not line.startswith("warning")]
    assert line.startswith("error: ")
    assert message in line
    assert not (tmp_path / "layout.json").exists()


def test_a_file_is_not_written_over_itself(answer: Path) -> None:
    result = run(answer, "--out", answer)
    assert result.exit_code == 2
    assert "is the file to convert; give --out another name" in result.stderr
    assert answer.read_text() == ANSWER
