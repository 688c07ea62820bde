"""OpenPose's files against tables of body parts, and drawings against hand-counted pixels and controlnet_aux's own."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from runtime import Layout, RealCompoError
from runtime.layouts.openpose import coco_18, draw_people, read_openpose
from runtime.spatial.control_images import control_image

# As OpenPose's manual lists them (doc/02_output.md).
COCO = [
    *("Nose", "Neck", "RShoulder", "RElbow", "RWrist", "LShoulder", "LElbow", "LWrist"),
    *("RHip", "RKnee", "RAnkle", "LHip", "LKnee", "LAnkle", "REye", "LEye", "REar", "LEar"),
]
BODY_25 = [
    *("Nose", "Neck", "RShoulder", "RElbow", "RWrist", "LShoulder", "LElbow", "LWrist", "MidHip"),
    *("RHip", "RKnee", "RAnkle", "LHip", "LKnee", "LAnkle", "REye", "LEye", "REar", "LEar"),
    *("LBigToe", "LSmallToe", "LHeel", "RBigToe", "RSmallToe", "RHeel"),
]
EXAMPLE = Path("examples/keypoints/layout.json")
# What controlnet_aux 0.0.10 (`draw_bodypose`) draws of the example's people at 512x512.
REFERENCE = Path(__file__).with_name("data") / "controlnet_aux_openpose.png"


def write(folder: Path, content: Any) -> Path:
    path = folder / "pose.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def person(count: int = 18, **values: Any) -> dict[str, Any]:
    return {"pose_keypoints_2d": [0.5, 0.25, 1] * count, **values}


def body(**seen: tuple[float, float]) -> list[tuple[float, float] | None]:
    return [seen.get(part) for part in COCO]


def test_pixels_become_fractions_of_the_canvas(tmp_path: Path) -> None:
    numbers = [64, 32, 0.7, 0, 0, 0, *[128, 8, 0.1] * 16]
    people = [person(), {"pose_keypoints_2d": numbers, "face_keypoints_2d": [1, 2, 3]}]
    path = write(tmp_path, {"version": 1.3, "people": people, "canvas_width": 128, "canvas_height": 64})
    assert read_openpose(path, person=1) == [(0.5, 0.5), None, *[(1.0, 0.125)] * 16]


def test_fractions_need_no_canvas(tmp_path: Path) -> None:
    people = {"people": [person()], "canvas_width": 128, "canvas_height": 64}
    assert read_openpose(write(tmp_path, people)) == [(0.5, 0.25)] * 18
    assert read_openpose(write(tmp_path, {"people": [person()]})) == [(0.5, 0.25)] * 18
    assert read_openpose(write(tmp_path, [people])) == [(0.5, 0.25)] * 18  # as ComfyUI saves it


def test_body_25_has_the_parts_of_coco(tmp_path: Path) -> None:
    numbers = [number for i in range(25) for number in (i / 100, 0.5, 1)]
    keypoints = read_openpose(write(tmp_path, {"people": [{"pose_keypoints_2d": numbers}]}))
    assert len(keypoints) == 25  # the region's box has the feet too
    assert [round(100 * point[0]) for point in coco_18(keypoints) if point] == [BODY_25.index(part) for part in COCO]


@pytest.mark.parametrize(
    ("content", "which", "message"),
    [
        ("{", 0, "the file: Invalid JSON"),
        ({"persons": []}, 0, "people: Field required"),
        (
            {"people": [{"pose_keypoints_2d": [0, "x"]}]},
            0,
            "people.0.pose_keypoints_2d.1: Input should be a valid number",
        ),
        ({"people": [person()]}, 1, "has 1 people; there is no person 1"),
        ({"people": [person(17)]}, 0, "people.0.pose_keypoints_2d has 51 numbers; give x, y, confidence of 18 or 25"),
        ({"people": [{"pose_keypoints_2d": [200, 9, 1] * 18}]}, 0, "add canvas_width and canvas_height to the file"),
        ({"people": [{"pose_keypoints_2d": [-0.5, 0.5, 1] * 18}]}, 0, "seems to run from -1 to 1"),
        ({"people": [{"pose_keypoints_2d": [0.5, 0.5, 1] * 17 + [1e9, 0, 1]}]}, 0, "a coordinate of 1e.09"),
        ([{"people": []}, {"people": []}], 0, "the file has 2 frames; say which in the region's frame, from 0"),
        (
            {"people": [person(), {"pose_keypoints_2d": None}]},
            1,
            "people.1.pose_keypoints_2d is null: no body was seen",
        ),
        ({"width": 512, "height": 512, "keypoints": [[1, 2]] * 20}, 0, "it has 20 keypoints; give 18 a person"),
        ({"width": 512, "height": 512, "keypoints": [[1, 2, 3]] * 18}, 0, "keypoints has one that is no"),
        ({"people": [person()], "canvas_width": -1}, 0, "canvas_width: Input should be greater"),
    ],
)
def test_bad_files(tmp_path: Path, content: Any, which: int, message: str) -> None:
    with pytest.raises(RealCompoError, match=message):
        read_openpose(write(tmp_path, content), which)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RealCompoError, match=r"cannot read .*none.json: No such file"):
        read_openpose(tmp_path / "none.json")


def test_limb_and_dots_pixel_by_pixel() -> None:
    """The limb from neck to right shoulder: 60 pixels long, 9 thick; drawn below two dots of 9 across."""
    drawn = draw_people([body(Neck=(160.5 / 512, 200.5 / 512), RShoulder=(100.5 / 512, 200.5 / 512))], (512, 512))
    column = {row: tuple(map(int, drawn[row, 130])) for row in range(512) if drawn[row, 130].any()}
    assert column == dict.fromkeys(range(196, 205), (153, 0, 0))  # 60% of the first colour
    for middle, color in ((160, (255, 85, 0)), (100, (255, 170, 0))):  # the neck is keypoint 1, the shoulder 2
        dot = (drawn == color).all(axis=-1)
        assert dot[200].nonzero()[0].tolist() == list(range(middle - 4, middle + 5))
        assert dot.sum() == sum((x * x + y * y) <= 4.5**2 for x in range(-4, 5) for y in range(-4, 5))
    assert drawn[200].any(axis=-1).nonzero()[0].tolist() == list(range(96, 165))


def test_every_limb_has_its_colour() -> None:
    """The skeleton by its parts' names, each limb drawn alone: its hues go round the circle."""
    limbs = [
        *("Neck-RShoulder", "Neck-LShoulder", "RShoulder-RElbow", "RElbow-RWrist", "LShoulder-LElbow", "LElbow-LWrist"),
        *("Neck-RHip", "RHip-RKnee", "RKnee-RAnkle", "Neck-LHip", "LHip-LKnee", "LKnee-LAnkle"),
        *("Neck-Nose", "Nose-REye", "REye-REar", "Nose-LEye", "LEye-LEar"),
    ]
    hues = [20 * i for i in range(len(limbs))]  # degrees, from red on
    for limb, hue in zip(limbs, hues, strict=True):
        start, end = limb.split("-")
        middle = draw_people([body(**{start: (0.2, 0.5), end: (0.8, 0.5)})], (64, 64))[32, 32]
        red, green, blue = (round(255 * _channel(hue, shift)) for shift in (0, 120, 240))
        assert np.abs(middle - 0.6 * np.array([red, green, blue])).max() <= 1, limb


def _channel(hue: float, shift: float) -> float:
    """Of a colour of full saturation and brightness: 1 within 60 degrees of its own hue, 0 beyond 120."""
    distance = abs((hue - shift + 180) % 360 - 180)
    return min(1, max(0, (120 - distance) / 60))


def test_unseen_points_have_neither_dot_nor_limb() -> None:
    drawn = draw_people([body(Nose=(0.5, 0.5), REye=(0.25, 0.25), RElbow=(0.75, 0.75))], (256, 256))
    assert {tuple(map(int, color)) for color in drawn.reshape(-1, 3)} == {
        (0, 0, 0),
        (255, 0, 0),  # nose
        (170, 0, 255),  # right eye
        (255, 255, 0),  # right elbow: no limb leads to it
        (51, 0, 153),  # the limb of nose and right eye
    }


POINTS = st.tuples(st.floats(0.05, 0.95), st.floats(0.05, 0.95))


@given(st.lists(POINTS, min_size=18, max_size=18))
@settings(max_examples=20, deadline=None)
def test_drawing_has_no_preferred_axis(points: list[tuple[float, float]]) -> None:
    drawn = draw_people([points], (96, 96))
    swapped = draw_people([[(y, x) for x, y in points]], (96, 96)).swapaxes(0, 1)
    assert (drawn != swapped).any(axis=-1).mean() < 1e-3  # a centre on an ellipse's very edge may fall to either side


@given(POINTS, POINTS)
@settings(max_examples=30, deadline=None)
def test_limbs_cover_their_ellipse(start: tuple[float, float], end: tuple[float, float]) -> None:
    length = 512 * math.dist(start, end)
    drawn = draw_people([body(LKnee=start, LAnkle=end)], (512, 512))
    ellipse, dot = math.pi * 4.5 * length / 2, math.pi * 4.5**2
    assert max(ellipse, dot) * 0.9 - 10 <= drawn.any(axis=-1).sum() <= ellipse + 2 * dot + 0.1 * ellipse + 10


@given(POINTS, st.integers(8, 80))
@settings(deadline=None)
def test_no_dot_falls_between_pixels(point: tuple[float, float], side: int) -> None:
    drawn = draw_people([body(Nose=point)], (side, side))
    assert drawn[int(point[1] * side), int(point[0] * side)].tolist() == [255, 0, 0]


def test_thickness_follows_the_picture() -> None:
    """controlnet_aux draws where the shorter side is 512, and scales that."""
    people = [body(Neck=(0.2, 0.5), LHip=(0.8, 0.5))]
    thickness = {size: int(draw_people(people, size)[:, size[1] // 2].any(axis=-1).sum()) for size in SIZES}
    assert thickness == SIZES


SIZES = {(512, 512): 8, (512, 1024): 8, (1024, 1024): 18, (64, 64): 2}


def test_same_people_as_controlnet_aux_draws() -> None:
    """Not pixel by pixel: OpenCV rounds centres to pixels and angles to degrees."""
    image = np.asarray(Image.open(REFERENCE).convert("RGB")).astype(int)
    control = control_image(Layout.from_file(EXAMPLE), "openpose", (512, 512))
    drawn = control.mul(255).round().int().permute(1, 2, 0).numpy()
    assert {*map(tuple, drawn.reshape(-1, 3))} == {*map(tuple, image.reshape(-1, 3))}
    inside, reference = drawn.any(axis=-1), image.any(axis=-1)
    assert (inside & reference).sum() / (inside | reference).sum() > 0.85
    assert (drawn == image).all(axis=-1)[inside & reference].mean() > 0.97


@pytest.mark.parametrize(
    ("size", "thin", "thick"),
    [((512, 512), 4.5, 8.5), ((448, 448), 3.94, 4.5), ((1024, 1024), 9, 12.5), ((768, 1344), 6.75, 12.5)],
)
def test_pens_are_as_thick_as_annotators(size: tuple[int, int], thin: float, thick: float) -> None:
    """OpenCV's 4 pixels to either side; of xinsir's code times 1 below 500 pixels, 2 below 1000, 3 below 2000."""
    person = [(0.5, 0.2), (0.5, 0.8), *[None] * 16]  # nose and neck, one upright limb
    for pen, radius in (("thin", thin), ("thick", thick)):
        across = (draw_people([person], size, pen)[size[0] // 2] > 0).any(axis=1).sum()
        assert abs(across - 2 * radius) <= 1
