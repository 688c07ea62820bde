"""Label maps and depth in every file format that they come in, written by Pillow."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from runtime import RealCompoError
from runtime.layouts.images import read_depth, read_labels
from runtime.layouts.palette import ade20k, class_id

LABELS = np.array([[0, 1, 23], [149, 255, 7]], dtype=np.uint8)


def palette_image(labels: np.ndarray) -> Image.Image:
    image = Image.fromarray(labels)
    image.putpalette(list(range(255, -1, -1)) * 3)  # colours that are not the ids
    return image


@pytest.mark.parametrize(
    "image",
    [palette_image(LABELS), Image.fromarray(LABELS), Image.fromarray(LABELS.astype(np.uint16))],
    ids=["palette", "grey", "grey of 16 bits"],
)
def test_label_maps(tmp_path: Path, image: Image.Image) -> None:
    image.save(tmp_path / "labels.png")
    found = read_labels(tmp_path / "labels.png")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, LABELS)
    np.testing.assert_array_equal(read_labels(image), LABELS)
    np.testing.assert_array_equal(read_labels(LABELS.astype(np.int64)), LABELS)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (Image.new("RGB", (2, 2)), "pixels are RGB, not class ids; save it as a palette or grey PNG"),
        (Image.new("1", (2, 2)), "pixels are 1, not class ids"),
        (np.zeros((2, 2, 3), dtype=np.uint8), r"uint8 \(2, 2, 3\); give \(H,W\) of class ids"),
        (np.zeros((2, 2)), r"float64 \(2, 2\); give \(H,W\) of class ids"),
        (np.zeros((0, 2), dtype=int), r"int64 \(0, 2\); give"),
        (np.array([[3, 256]]), "span 3 to 256; they are 0 to 254, and 255 for no class"),
        (np.array([[-1, 2]]), "span -1 to 2"),
        ("nowhere.png", "cannot read the segmentation nowhere.png"),
    ],
)
def test_bad_label_maps(labels: Any, message: str) -> None:
    with pytest.raises(RealCompoError, match=message):
        read_labels(labels)


def test_depth_of_8_and_16_bits(tmp_path: Path) -> None:
    eighths = np.array([[0, 51, 255]], dtype=np.uint8)
    sixteenths = np.array([[0, 13107, 65535]], dtype=np.uint16)
    rgb = Image.fromarray(eighths).convert("RGB")
    for i, image in enumerate((Image.fromarray(eighths), Image.fromarray(sixteenths), rgb)):
        image.save(tmp_path / f"{i}.png")
        for source in (image, tmp_path / f"{i}.png"):
            np.testing.assert_allclose(read_depth(source), [[0, 0.2, 1]], atol=1e-6)
    Image.fromarray(sixteenths.astype(np.int32)).save(tmp_path / "depth.tiff")  # mode I
    np.testing.assert_allclose(read_depth(tmp_path / "depth.tiff"), [[0, 0.2, 1]], atol=1e-6)
    floats = np.array([[0, 0.2, 1]], dtype=np.float32)
    Image.fromarray(floats).save(tmp_path / "floats.tiff")
    np.testing.assert_array_equal(read_depth(tmp_path / "floats.tiff"), floats)
    assert read_depth(floats.astype(np.float64)).dtype == np.float32


@pytest.mark.parametrize(
    ("depth", "message"),
    [
        (np.array([[0.0, 1.5]]), "outside 0..1"),
        (np.array([[0.0, np.nan]]), "outside 0..1"),
        (np.zeros((0, 2)), "outside 0..1"),
        (np.zeros((2, 2), dtype=np.int64), r"int64 \(2, 2\); give"),
        (np.zeros((2, 2, 3), dtype=np.uint8), r"uint8 \(2, 2, 3\); give"),
        (Image.fromarray(np.array([[0, 1], [2, 70000]], dtype=np.int32)), r"int32 \(2, 2\); give"),
        ("nowhere.png", "cannot read the depth nowhere.png"),
    ],
)
def test_bad_depth(depth: Any, message: str) -> None:
    with pytest.raises(RealCompoError, match=message):
        read_depth(depth)


def test_palette_of_ade20k() -> None:
    """Classes as the segmentation ControlNets' users look them up."""
    known = {
        (0, "wall"): (120, 120, 120),
        (1, "building"): (180, 120, 120),
        (2, "sky"): (6, 230, 230),
        (4, "tree"): (4, 200, 3),
        (12, "person"): (150, 5, 61),
        (20, "car"): (0, 102, 200),
        (23, "sofa"): (11, 102, 255),
        (44, "chest of drawers"): (6, 51, 255),
        (119, "ball"): (255, 0, 163),
        (149, "flag"): (92, 0, 255),
    }
    palette = ade20k()
    assert len(palette.names) == len(set(palette.names)) == len(palette.colors) == 150
    for (label, name), color in known.items():
        assert class_id(name) == class_id(label) == label
        assert palette.names[label] == name
        assert tuple(map(int, palette.colors[label])) == color


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("sofaa", "'sofaa' is not an ADE20K class; close to it: sofa"),
        ("unicorn-shaped", "'unicorn-shaped' is not an ADE20K class; runtime/layouts/ade20k.csv lists them"),
        (255, "class id 255 is out of range; ids are 0 to 254"),
        (-1, "class id -1 is out of range"),
    ],
)
def test_bad_labels(label: int | str, message: str) -> None:
    with pytest.raises(RealCompoError, match=message):
        class_id(label)
