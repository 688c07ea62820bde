"""Layouts against counting sub-pixels, and every way to get one wrong."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from runtime import Layout, RealCompoError, Region

EDGES = st.tuples(st.integers(0, 120), st.integers(0, 120)).filter(lambda edges: edges[0] != edges[1]).map(sorted)


@given(EDGES, EDGES, st.sampled_from([1, 3, 4, 5, 8]), st.sampled_from([2, 6, 10]))
@settings(max_examples=60, deadline=None)
def test_box_mask_equals_counted_subpixels(xs: list[int], ys: list[int], height: int, width: int) -> None:
    fine = np.zeros((120, 120))
    fine[ys[0] : ys[1], xs[0] : xs[1]] = 1
    counted = fine.reshape(height, 120 // height, width, 120 // width).mean(axis=(1, 3))
    region = Region("x", box=(xs[0] / 120, ys[0] / 120, xs[1] / 120, ys[1] / 120))
    np.testing.assert_allclose(region.mask_at((height, width)), counted, atol=1e-6)


@given(st.floats(0, 0.9), st.floats(0, 0.9), st.floats(0.01, 0.1), st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_box_mask_keeps_the_area(x: float, y: float, side: float, cells: int) -> None:
    mask = Region("x", box=(x, y, x + side, y + side)).mask_at((cells, cells))
    assert mask.min() >= 0
    assert mask.max() <= 1
    assert mask.sum() / cells**2 == pytest.approx(side**2, rel=1e-4)


@given(*[st.floats(0, 1)] * 4, st.sampled_from([(16, 16), (32, 32), (12, 20)]))
@settings(max_examples=100, deadline=None)
def test_hard_box_has_the_cells_of_the_authors_slice(
    a: float, b: float, c: float, d: float, resolution: tuple[int, int]
) -> None:
    """`attention[int(16 * y1) : int(16 * y2), int(16 * x1) : int(16 * x2)]` in their `get_loss`."""
    (x1, x2), (y1, y2), (height, width) = sorted((a, b)), sorted((c, d)), resolution
    assume(x1 < x2 and y1 < y2)
    found = Region("x", box=(x1, y1, x2, y2)).mask_at(resolution, hard=True)
    cells = np.arange(height * width).reshape(resolution)
    inside = cells[int(height * y1) : int(height * y2), int(width * x1) : int(width * x2)]
    np.testing.assert_array_equal(np.flatnonzero(found), inside.flatten())
    assert set(np.unique(found)) <= {0, 1} and found.dtype == np.float32


def test_hard_keypoints_are_their_hard_box_and_a_hard_mask_is_halves() -> None:
    points = Region("x", keypoints=[(0.3, 0.3), (0.6, 0.7), None])
    box = Region("x", box=points.bounding_box())
    np.testing.assert_array_equal(points.mask_at((8, 8), hard=True), box.mask_at((8, 8), hard=True))
    mask = np.array([[1.0, 0.5, 0.4], [1.0, 0.2, 0.0]]).repeat(2, axis=1)
    np.testing.assert_array_equal(Region("x", mask=mask).mask_at((2, 3), hard=True), [[1, 1, 0], [1, 0, 0]])


def test_mask_is_averaged_over_cells_that_cut_pixels() -> None:
    mask = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 1.0]])
    fine = mask.repeat(2, axis=0).repeat(2, axis=1)  # 6x6, which 2x2 cells divide
    counted = fine.reshape(2, 3, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(Region("x", mask=mask).mask_at((2, 2)), counted, atol=1e-6)


def test_bounding_box_of_a_mask() -> None:
    mask = np.zeros((10, 20), dtype=bool)
    mask[3:6, 4:14] = True
    assert Region("x", mask=mask).bounding_box() == (4 / 20, 3 / 10, 14 / 20, 6 / 10)


def test_keypoints_are_the_box_around_them() -> None:
    region = Region("x", keypoints=[(0.2, 0.9), (0.5, 0.3), (0.4, 0.4)])
    assert region.bounding_box() == (0.2, 0.3, 0.5, 0.9)
    np.testing.assert_allclose(region.mask_at((5, 5)), Region("x", box=(0.2, 0.3, 0.5, 0.9)).mask_at((5, 5)))


def test_unseen_keypoints_leave_the_box_as_it_is() -> None:
    region = Region("x", keypoints=[None, (0.2, 0.9), None, (0.5, 0.3)])
    assert region.bounding_box() == (0.2, 0.3, 0.5, 0.9)


LABELS = np.array([[3, 3, 23], [3, 23, 23]])


def test_a_label_takes_its_pixels_of_the_label_map() -> None:
    sofa, ball = Layout([Region("sofa", label="sofa"), Region("ball", box=(0, 0, 1, 1), label=3)], None, LABELS).regions
    assert sofa.label == 23
    np.testing.assert_array_equal(sofa.mask_at((2, 3)), [[0, 0, 1], [0, 1, 1]])
    assert ball.bounding_box() == (0, 0, 1, 1)  # of its own place, not of the label's


def test_layouts_can_be_copied_with_changes() -> None:
    depth = np.array([[0.25, 1]])
    layout = Layout([Region("x", label=3)], "a", LABELS, depth, background="sky")
    copy = replace(layout, prompt="b")
    assert copy.prompt == "b"
    assert copy.background == 2
    np.testing.assert_array_equal(copy.segmentation, LABELS)
    np.testing.assert_array_equal(copy.depth, depth)
    np.testing.assert_array_equal(copy.regions[0].mask_at((2, 3)), [[1, 1, 0], [1, 0, 0]])


@pytest.mark.parametrize(
    ("region", "segmentation", "message"),
    [
        ({"label": 3}, None, "region 'x' has a label but no place; give one, or the layout's segmentation"),
        ({"label": 4}, LABELS, "the segmentation has no pixel of class 4; its classes are 3, 23"),
        ({"label": "unicorn"}, LABELS, "'unicorn' is not an ADE20K class"),
    ],
)
def test_labels_without_a_place(region: dict[str, Any], segmentation: np.ndarray | None, message: str) -> None:
    with pytest.raises(RealCompoError, match=message):
        Layout([Region("x", **region)], segmentation=segmentation)


def test_masks_of_every_kind_are_the_same() -> None:
    bools = np.eye(6, dtype=bool)
    kinds: list[Any] = [bools, bools.astype(np.float32), bools.astype(np.uint8) * 255, Image.fromarray(bools)]
    first, *others = [Region("x", mask=kind).mask_at((3, 3)) for kind in kinds]
    for other in others:
        np.testing.assert_array_equal(first, other)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({}, "no place"),
        ({"box": (0, 0, 1, 1), "keypoints": [(0, 0), (1, 1)]}, "box and keypoints"),
        ({"box": (0.1, 0.1, 1.2, 0.5)}, "0 to 1"),
        ({"box": (-0.1, 0.1, 0.2, 0.5)}, "0 to 1"),
        ({"box": (0.5, 0.1, 0.5, 0.5)}, "empty"),
        ({"box": (0.1, 0.6, 0.5, 0.5)}, "empty"),
        ({"box": (0.1, 0.1, float("nan"), 0.5)}, "four numbers"),
        ({"box": (0.1, 0.1, 0.5)}, "four numbers"),
        ({"keypoints": [(0.5, 0.5)]}, "empty"),
        ({"keypoints": []}, "at least one of them seen"),
        ({"keypoints": [None, None]}, "at least one of them seen"),
        ({"keypoints": [(0.1, 0.2, 0.3)]}, "not a list of"),
        ({"label": 300}, "class id 300 is out of range"),
        ({"keypoints": [(160, 96), (172, 300)]}, "seem to be pixels"),
        ({"keypoints": [(1.1, 0.5), (1.4, 0.7)]}, "empty"),
        (
            {"keypoints": [(0.5, 0.5), (0, 0)]},
            r"keypoint 1 of 'a red ball' is \[0.0, 0.0\], which often means not seen",
        ),
        ({"mask": np.zeros((4, 4))}, "is empty"),
        ({"mask": np.ones((4, 4), dtype=np.uint8)}, "largest value is 0.00392"),
        ({"mask": np.full((4, 4), 2.0)}, "outside 0..1"),
        ({"mask": np.full((4, 4), np.nan)}, "outside 0..1"),
        ({"mask": np.ones((4, 4, 3))}, "give"),
        ({"mask": np.ones((0, 4))}, "outside 0..1"),
        ({"mask": "nowhere.png"}, "cannot read the mask nowhere.png"),
    ],
)
def test_bad_regions(place: dict[str, Any], message: str) -> None:
    with pytest.raises(RealCompoError, match=message):
        Region("a red ball", **place)


def test_empty_phrase() -> None:
    with pytest.raises(RealCompoError, match="phrase is empty"):
        Region(" ", box=(0, 0, 1, 1))


def write_layout(folder: Path, content: Any) -> Path:
    path = folder / "layout.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_layout_file(tmp_path: Path) -> None:
    Image.fromarray(np.eye(8, dtype=bool)).save(tmp_path / "mask.png")
    regions: list[dict[str, Any]] = [
        {"phrase": "a ball", "box": [0, 0, 0.5, 0.5]},
        {"phrase": "a cube", "mask": "mask.png", "tokens": [2, 3]},
        {"phrase": "a cone", "keypoints": [[0.1, 0.2], None, [0.3, 0.4]], "label": "ball"},
        {"phrase": "a dancer", "openpose": "poses/pose.json", "person": 1},
        {"phrase": "the sky", "label": "sky"},
    ]
    people = [{"pose_keypoints_2d": [0.5, 0.5, 0] * 18}, {"pose_keypoints_2d": [32, 8, 1, 48, 16, 1, *[0, 0, 0] * 16]}]
    (tmp_path / "poses").mkdir()
    (tmp_path / "poses" / "pose.json").write_text(
        json.dumps({"people": people, "canvas_width": 64, "canvas_height": 32})
    )
    Image.fromarray(np.array([[2, 2, 0, 0]], dtype=np.uint8)).save(tmp_path / "labels.png")
    Image.fromarray(np.array([[0, 51]], dtype=np.uint8)).save(tmp_path / "depth.png")
    content = {"$schema": "x", "prompt": "balls", "segmentation": "labels.png", "depth": "depth.png", "background": 7}
    layout = Layout.from_file(write_layout(tmp_path, {**content, "regions": regions}))
    assert layout.prompt == "balls"
    assert [region.bounding_box() for region in layout.regions] == [
        (0, 0, 0.5, 0.5),
        (0, 0, 1, 1),
        (0.1, 0.2, 0.3, 0.4),
        (0.5, 0.25, 0.75, 0.5),
        (0, 0, 0.5, 1),
    ]
    assert [region.tokens for region in layout.regions] == [None, [2, 3], None, None, None]
    assert [region.label for region in layout.regions] == [None, None, 119, None, 2]
    assert layout.background == 7
    np.testing.assert_allclose(layout.depth, [[0, 0.2]], atol=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "the file: Invalid JSON"),
        ({}, "regions: Field required"),
        ({"regions": [{"phrase": "x", "box": [0, 0, 1]}]}, "regions.0.box.3: Field required"),
        ({"regions": [{"phrase": "x", "box": [0, 0, 1, 2]}]}, "regions.0.box: the box of 'x' .* 0 to 1"),
        ({"regions": [{"box": [0, 0, 1, 1]}]}, "regions.0.phrase: Field required"),
        ({"regions": [{"phrase": "x", "bbox": [0, 0, 1, 1]}]}, "regions.0.bbox: unknown field; did you mean box?"),
        ({"regions": [{"phrase": "x", "mask": "../mask.png"}]}, "regions.0.mask: '../mask.png' leaves"),
        ({"regions": [{"phrase": "x", "mask": "/etc/passwd"}]}, "leaves the layout's folder"),
        ({"regions": [{"phrase": "x", "mask": "a\0.png"}]}, r"regions.0.mask: 'a\\x00.png' is no name of a file"),
        (
            {"regions": [{"phrase": "x", "box": [9, 9, 90, 90], "mask": "x.png"}]},
            "regions.0: box and mask are both given; give one",
        ),
        ({"regions": [{"phrase": "x", "mask": "layout.json"}]}, "regions.0.mask: cannot read the mask"),
        ({"regions": [{"phrase": "x"}]}, r"layout.json: regions.0: region 'x' has no place"),
        ({"regions": [{"phrase": " ", "box": [0, 0, 1, 1]}]}, "regions.0.phrase: a region's phrase is empty"),
        ({"regions": [{"phrase": "x", "keypoints": [[0, 0], [0.1]]}]}, "regions.0.keypoints.1.1: Field required"),
        (
            {"regions": [{"phrase": "x", "keypoints": [[120, 80], [100, 200]]}]},
            "regions.0.keypoints: .* pixels; .* 0 to 1",
        ),
        ({"regions": [{"phrase": "x", "openpose": "none.json"}]}, "regions.0.openpose: cannot read .*none.json"),
        ({"regions": [{"phrase": "x", "openpose": "../p.json"}]}, "regions.0.openpose: '../p.json' leaves"),
        ({"regions": [{"phrase": "x", "openpose": "layout.json"}]}, "regions.0.openpose: .*: people: Field required"),
        (
            {"regions": [{"phrase": "x", "openpose": "a", "keypoints": []}]},
            "regions.0: keypoints and openpose are both",
        ),
        ({"regions": [{"phrase": "x", "openpose": "a", "person": -1}]}, "regions.0.person: Input should be greater"),
        (
            {"regions": [{"phrase": "x", "box": [0, 0, 1, 1], "person": 1}]},
            "regions.0: person is given without openpose",
        ),
        ({"regions": [{"phrase": "x", "label": "unicorn"}]}, "regions.0.label: 'unicorn' is not an ADE20K class"),
        ({"regions": [{"phrase": "x", "label": [1]}]}, "regions.0.label"),
        (
            {"regions": [{"phrase": "x", "label": 1}]},
            "layout.json: regions.0.label: region 'x' has a label but no place",
        ),
        ({"regions": [], "segmentation": "../x.png"}, "layout.json: segmentation: '../x.png' leaves"),
        ({"regions": [], "segmentation": "x.png"}, "layout.json: segmentation: cannot read the segmentation"),
        ({"regions": [], "depth": "layout.json"}, "layout.json: depth: cannot read the depth"),
        ({"regions": [], "background": "blue"}, "layout.json: background: 'blue' is not an ADE20K class"),
    ],
)
def test_bad_layout_files(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(RealCompoError, match=message):
        Layout.from_file(write_layout(tmp_path, content))


def test_link_out_of_the_layouts_folder(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    Image.fromarray(np.eye(8, dtype=bool)).save(tmp_path / "mask.png")
    (inner / "mask.png").symlink_to(tmp_path / "mask.png")
    with pytest.raises(RealCompoError, match="leaves the layout's folder"):
        Layout.from_file(write_layout(inner, {"regions": [{"phrase": "x", "mask": "mask.png"}]}))


def test_missing_layout_file(tmp_path: Path) -> None:
    with pytest.raises(RealCompoError, match=r"cannot read the layout .*No such file"):
        Layout.from_file(tmp_path / "none.json")
