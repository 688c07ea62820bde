"""Poses as tools write them, against places worked out by hand: units, unseen points, points outside the picture."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime import Layout, RealCompoError, Region
from runtime.layouts.openpose import coco_18, draw_people, read_openpose

# A standing body of COCO's 18 points, in fractions: its box is (0.2, 0.1, 0.5, 0.9).
BODY = [
    *((0.35, 0.15), (0.35, 0.25), (0.25, 0.25), (0.2, 0.4), (0.2, 0.5), (0.45, 0.25), (0.5, 0.4), (0.5, 0.5)),
    *((0.3, 0.5), (0.3, 0.7), (0.3, 0.9), (0.4, 0.5), (0.4, 0.7), (0.4, 0.9)),
    *((0.34, 0.12), (0.36, 0.12), (0.33, 0.1), (0.37, 0.1)),
]
LIMB_ENDS = (4, 7, 10, 13)  # wrists and ankles, which leave pictures first


def pose(folder: Path, *people: list[Any], **canvas: float) -> Path:
    """A file of people, each of (x, y, confidence)."""
    flat = [{"pose_keypoints_2d": [number for point in person for number in point]} for person in people]
    path = folder / "pose.json"
    path.write_text(json.dumps({"people": flat, **canvas}))
    return path


def seen(points: list[tuple[float, float]], **others: Any) -> list[Any]:
    """With confidence 0.9, but for the points that are given: p3=(...)."""
    triples: list[Any] = [(x, y, 0.9) for x, y in points]
    for name, value in others.items():
        triples[int(name[1:])] = value
    return triples


def scaled(width: float, height: float) -> list[tuple[float, float]]:
    return [(x * width, y * height) for x, y in BODY]


def box(path: Path, person: int = 0) -> tuple[float, ...]:
    return Region("x", keypoints=read_openpose(path, person)).bounding_box()


CANVAS = {"canvas_width": 512, "canvas_height": 768}


@pytest.mark.parametrize(
    ("person", "canvas", "wanted"),
    [
        (seen(BODY), {}, (0.2, 0.1, 0.5, 0.9)),
        (seen(BODY), CANVAS, (0.2, 0.1, 0.5, 0.9)),
        (seen(scaled(512, 768)), CANVAS, (0.2, 0.1, 0.5, 0.9)),
        (seen(scaled(20, 10)), {"canvas_width": 20, "canvas_height": 10}, (0.2, 0.1, 0.5, 0.9)),
        (seen(BODY, p10=(0.3, 1.12, 0.9)), CANVAS, (0.2, 0.1, 0.5, 1)),
        (seen(BODY, p4=(-0.4, 0.5, 0.9), p10=(0.3, 3.5, 1)), {}, (0, 0.1, 0.5, 1)),
        (seen(BODY, p7=(700, 0.5, 0.9)), CANVAS, (0.2, 0.1, 1, 0.9)),
        (seen(scaled(512, 768), p10=(154, 800, 1)), CANVAS, (0.2, 0.1, 0.5, 1)),
        (seen(scaled(512, 768), p4=(0.5, 384, 1)), CANVAS, (1 / 1024, 0.1, 0.5, 0.9)),
        (seen(BODY, p3=(0, 0, 0), p4=(0, 0, 0.6), p16=(-1, -1, 0)), {}, (0.25, 0.1, 0.5, 0.9)),
        (seen(BODY, p3=(None, None, 0), p4=(-1, -1, 1), p16=(0.9, 0.99, -1)), {}, (0.25, 0.1, 0.5, 0.9)),
        (seen(BODY, p16=(900, 900, 0)), {}, (0.2, 0.1, 0.5, 0.9)),
    ],
)  # fmt: skip
def test_places_of_people(tmp_path: Path, person: list[Any], canvas: dict[str, float], wanted: Any) -> None:
    assert box(pose(tmp_path, person, **canvas)) == pytest.approx(wanted, abs=1e-9)


def test_a_person_of_two_points_has_the_units_of_the_others(tmp_path: Path) -> None:
    """Alone, its pixels could be fractions."""
    few: list[Any] = [(0, 0, 0)] * 18
    few[0], few[1] = (1, 0.5, 0.9), (0.25, 1, 0.9)
    path = pose(tmp_path, few, seen(scaled(64, 32)), canvas_width=64, canvas_height=32)
    assert read_openpose(path)[:3] == [(1 / 64, 0.5 / 32), (0.25 / 64, 1 / 32), None]


@given(
    st.floats(0.3, 2), st.floats(-0.05, 0.5), st.floats(0, 0.5), st.sampled_from([1.0, 64.0, 511.5, 4096.0]),
    st.dictionaries(st.sampled_from(LIMB_ENDS), st.tuples(st.floats(-3, 9), st.floats(-3, 9)), max_size=4),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_units_whatever_the_scale_and_outliers(
    tmp_path_factory: pytest.TempPathFactory,
    size: float,
    left: float,
    top: float,
    unit: float,
    outliers: dict[int, tuple[float, float]],
) -> None:
    """Fractions stay fractions and pixels pixels; and every point is where it was put.

    A person of a few pixels in the corner cannot be told from one in fractions, and so is none of these.
    """
    points = [(left + size * x, top + size * y) for x, y in BODY]
    for i, place in outliers.items():
        points[i] = place
    folder = tmp_path_factory.getbasetemp()
    path = pose(folder, seen([(x * unit, y * unit) for x, y in points]), canvas_width=unit, canvas_height=unit)
    found = read_openpose(path)
    wanted = [None if point in ((0, 0), (-1 / unit, -1 / unit)) else point for point in points]
    assert [point is None for point in found] == [point is None for point in wanted]
    both = [pair for pair in zip(found, wanted, strict=True) if pair[0] is not None]
    np.testing.assert_allclose([one for one, _ in both], [other for _, other in both], atol=1e-9)


@pytest.mark.parametrize("absent", [[0, 0], [0.0, 0.0], [-1, -1], None])
def test_unseen_points_of_a_layout(tmp_path: Path, absent: Any) -> None:
    points: list[Any] = [list(point) for point in BODY]
    points[3] = points[4] = absent
    layout = tmp_path / "layout.json"
    layout.write_text(json.dumps({"regions": [{"phrase": "x", "keypoints": points}]}))
    region = Layout.from_file(layout).regions[0]
    assert region.bounding_box() == (0.25, 0.1, 0.5, 0.9)
    assert region.keypoints is not None
    assert [i for i, point in enumerate(region.keypoints) if point is None] == [3, 4]


def test_points_outside_are_kept_and_the_box_is_cut() -> None:
    region = Region("x", keypoints=[(-0.5, 0.25), (0.5, 0.75)])
    assert region.keypoints == ((-0.5, 0.25), (0.5, 0.75))
    assert region.bounding_box() == (0, 0.25, 0.5, 0.75)
    np.testing.assert_allclose(region.mask_at((4, 4)), [[0] * 4, [1, 1, 0, 0], [1, 1, 0, 0], [0] * 4])


@pytest.mark.parametrize("outside", [(0.3, 1.4), (-0.4, 0.5), (0.3, -0.6), (2.5, 0.5), (-7.0, -5.0)])
def test_what_leaves_the_picture_is_drawn_as_the_part_inside(outside: tuple[float, float]) -> None:
    """The oracle is the same body in the middle of a larger picture, and the picture cut out of it."""
    body: list[Any] = [None] * 18
    body[8], body[9], body[10] = (0.3, 0.5), (0.4, 0.6), outside
    larger = [None if point is None else ((point[0] + 8) / 17, (point[1] + 8) / 17) for point in body]
    side = 64
    wide = draw_people([larger], (17 * side, 17 * side))  # a thickness of 17 pictures'
    cut = wide[8 * side : 9 * side, 8 * side : 9 * side]
    drawn = draw_people([body], (side, side))
    assert drawn.any()
    reach = cut.any(axis=-1)
    assert (reach | ~drawn.any(axis=-1)).all()  # nothing where the thicker one is not


@pytest.mark.parametrize(
    ("person", "canvas", "message"),
    [
        (seen(scaled(512, 768)), {}, "is in pixels, of a picture of unknown size"),
        (seen(scaled(512, 768)), {"canvas_width": 0, "canvas_height": 0}, "of unknown size"),
        (seen([(2 * x - 1, 2 * y - 1) for x, y in BODY]), {}, "seems to run from -1 to 1"),
    ],
)
def test_what_cannot_be_told_is_refused(tmp_path: Path, person: Any, canvas: Any, message: str) -> None:
    with pytest.raises(RealCompoError, match=message):
        box(pose(tmp_path, person, **canvas))


# COCO's own 17 points of the same body, in its order (its manual's list), left before right, and no neck.
COCO_17 = [BODY[i] for i in (0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10)]


def test_cocos_17_points_are_the_body_with_a_neck_between_the_shoulders() -> None:
    """The body's neck is halfway between its shoulders already."""
    neck = ((BODY[2][0] + BODY[5][0]) / 2, (BODY[2][1] + BODY[5][1]) / 2)
    assert neck == pytest.approx(BODY[1])
    assert [pytest.approx(point) for point in BODY] == coco_18(COCO_17)
    without_shoulder = [None if i == 6 else point for i, point in enumerate(COCO_17)]
    assert [i for i, point in enumerate(coco_18(without_shoulder)) if point is None] == [1, 2]


def test_cocos_17_points_in_a_layout_are_drawn_as_the_body(tmp_path: Path) -> None:
    """As GLIGEN's demo writes them, with [0, 0] for what is not seen: the right wrist."""
    points = [[0.0, 0.0] if i == 10 else list(point) for i, point in enumerate(COCO_17)]
    layout = tmp_path / "layout.json"
    layout.write_text(json.dumps({"regions": [{"phrase": "x", "keypoints": points}]}))
    region = Layout.from_file(layout).regions[0]
    assert region.keypoints is not None
    wanted = [None if i == 4 else point for i, point in enumerate(BODY)]
    np.testing.assert_array_equal(draw_people([region.keypoints], (64, 64)), draw_people([wanted], (64, 64)))


def test_frames_and_people_without_a_body_as_dwpose_saves_them(tmp_path: Path) -> None:
    """A list of frames; of someone of whom a hand alone is seen, the body is null."""
    body = [number for point in seen(scaled(512, 768)) for number in point]
    small = [number for point in seen(scaled(256, 384)) for number in point]
    hand = {"pose_keypoints_2d": None, "face_keypoints_2d": None, "hand_left_keypoints_2d": [1.0, 2.0, 1.0] * 21}
    frames = [
        {"people": [hand, {"pose_keypoints_2d": body}], **CANVAS},
        {"people": [{"pose_keypoints_2d": small}], **CANVAS},
    ]
    path = tmp_path / "pose.json"
    path.write_text(json.dumps(frames))
    assert Region("x", keypoints=read_openpose(path, 1, 0)).bounding_box() == pytest.approx((0.2, 0.1, 0.5, 0.9))
    assert Region("x", keypoints=read_openpose(path, 0, 1)).bounding_box() == pytest.approx((0.1, 0.05, 0.25, 0.45))
    with pytest.raises(RealCompoError, match="there is no frame 2"):
        read_openpose(path, 0, 2)
    layout = tmp_path / "layout.json"
    layout.write_text(json.dumps({"regions": [{"phrase": "x", "openpose": "pose.json", "frame": 1}]}))
    assert Layout.from_file(layout).regions[0].bounding_box() == pytest.approx((0.1, 0.05, 0.25, 0.45))
    layout.write_text(json.dumps({"regions": [{"phrase": "x", "openpose": "pose.json"}]}))
    with pytest.raises(RealCompoError, match=r"layout.json: regions.0.frame: the file has 2 frames; say which"):
        Layout.from_file(layout)


@pytest.mark.parametrize("nested", [False, True])
def test_people_of_openpose_editor(tmp_path: Path, nested: bool) -> None:
    """Its width and height, and 18 rounded points a person, one person after another; (-1, -1) is not seen."""
    first = [[round(x), round(y)] for x, y in scaled(500, 1000)]
    second = [[-1, -1] if i == 4 else [x // 2, y // 2] for i, (x, y) in enumerate(first)]
    people = [first, second] if nested else [*first, *second]
    path = tmp_path / "pose.json"
    path.write_text(json.dumps({"width": 500, "height": 1000, "keypoints": people}))
    assert box(path, 0) == pytest.approx((0.2, 0.1, 0.5, 0.9))
    assert box(path, 1) == pytest.approx((0.1, 0.05, 0.25, 0.45))
    assert read_openpose(path, 1)[4] is None
