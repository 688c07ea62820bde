"""`convert` as a user runs it: what is printed and written, exit codes, and one line for every mistake."""

import json
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


def test_the_command_of_a_refusal_mends_the_file(tmp_path: Path) -> None:
    """As a user who copies it: the layout is in pixels, and the size is known to the user alone."""
    file = tmp_path / "layout.json"
    file.write_text(json.dumps({"regions": [{"phrase": "a cat", "box": [64, 128, 256, 384]}]}))
    refused = CliRunner().invoke(app, ["show", f"{file}", "--out", f"{tmp_path / 'x.png'}"])
    assert refused.exit_code == 2
    command = refused.stderr.partition("python -m runtime ")[2].replace("WIDTHxHEIGHT", "512x512")
    words = command.replace("converted.json", f"{tmp_path / 'converted.json'}").split()
    mended = CliRunner().invoke(app, words)
    assert mended.exit_code == 0, mended.stderr
    assert Layout.from_file(tmp_path / "converted.json").regions[0].box == (0.125, 0.25, 0.5, 0.75)


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
