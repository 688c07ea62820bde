"""Boxes in the forms that ComfyUI's own nodes write, with corners counted by hand."""

from typing import Any

import numpy as np
import pytest

from comfyui.boxes import read_boxes, read_text
from runtime import RealCompoError
from tests.runtime.serving.server import png

PROMPT = "a red ball and a blue cube"
SIZE = (512, 256)  # width, height
BALL, CUBE = {"x": 64, "y": 128, "width": 192, "height": 64}, {"x": 256, "y": 0, "width": 256, "height": 128}
AT = [(0.125, 0.5, 0.5, 0.75), (0.5, 0.0, 1.0, 0.5)]
ELEMENTS = [  # top, left, bottom, right
    {"type": "obj", "bbox": [500, 125, 750, 500], "desc": "a red ball"},
    {"type": "text", "bbox": [0, 500, 500, 1000], "text": "OPEN", "desc": "a blue cube"},
]


def found(value: Any, *phrases: str) -> list[list[tuple[str, Any]]]:
    return [[(one.phrase, one.box) for one in layout.regions] for layout in read_boxes(value, SIZE, PROMPT, phrases)]


def test_one_box_a_list_and_a_list_for_each_image() -> None:
    ball, cube = ("a red ball", AT[0]), ("a blue cube", AT[1])
    assert found(BALL, "a red ball") == [[ball]]
    assert found([BALL, CUBE], "a red ball", "a blue cube") == [[ball, cube]]
    assert found([[BALL, CUBE]], "a red ball", "a blue cube") == [[ball, cube]]
    labelled = {**BALL, "label": "a red ball", "score": 0.9}
    assert found([[labelled], [{**CUBE, "label": "a blue cube"}]]) == [[ball], [cube]]
    assert found([]) == [[]]


def test_elements_of_the_box_editor_count_in_thousandths_and_bring_their_names() -> None:
    assert found(ELEMENTS) == [[("a red ball", AT[0]), ("a blue cube", AT[1])]]


def test_a_box_may_stick_out_by_a_detectors_rounding() -> None:
    assert found({"x": -2, "y": 0, "width": 130, "height": 260}, "a red ball") == [[("a red ball", (0, 0, 0.25, 1))]]


@pytest.mark.parametrize(
    ("value", "phrases", "message"),
    [
        ([BALL, CUBE], ["a red ball"], "1 phrases for 2 boxes"),
        ([BALL], [], "box 1 has no name; write the objects' phrases"),
        ([BALL, {**CUBE, "width": 300}], ["a red ball", "a blue cube"], "box 2 leaves the picture: .* boxes_width"),
        ([{**BALL, "width": 0}], ["a red ball"], "box 1: width: .* greater than 0"),
        ([{"bbox": [1, 2, 3]}], ["a red ball"], "box 1: bbox"),
        ([7], ["a red ball"], "box 1: "),
        ("C:/boxes.json", ["a red ball"], "box 1: "),
        ([{**BALL, "x": float("nan")}], ["a red ball"], "box 1"),
    ],
)
def test_what_is_no_box(value: Any, phrases: list[str], message: str) -> None:
    with pytest.raises(RealCompoError, match=message) as caught:
        found(value, *phrases)
    assert len(str(caught.value)) < 300


def test_a_layouts_text_brings_its_pictures_and_never_a_path() -> None:
    mask = np.zeros((4, 4), dtype=np.uint8)
    mask[:2] = 255
    text = '{"prompt": "a red ball", "regions": [{"phrase": "a red ball", "mask": "%s"}]}'
    layout = read_text(text % png(mask))
    assert layout.prompt == "a red ball"
    assert layout.regions[0].bounding_box() == (0, 0, 1, 0.5)
    with pytest.raises(RealCompoError, match=r"layout: regions.0.mask: .* never a path"):
        read_text(text % "../mask.png")
    with pytest.raises(RealCompoError, match=r"^layout: regions.0.box.3: Field required$"):
        read_text('{"regions": [{"phrase": "a red ball", "box": [0, 0, 1]}]}')
