"""Control images against hand-drawn grids, PyTorch's resampling, and what they were made from."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from runtime import Layout, RealCompoError, Region
from runtime.layouts.palette import Palette, ade20k
from runtime.spatial.control_images import control_image
from runtime.spatial.control_images.segmentation import label_map

EXAMPLES = Path("examples")


def colors_of(image: torch.Tensor) -> np.ndarray:
    """(3,H,W) in 0..1 -> (H,W,3) uint8."""
    return image.mul(255).round().byte().permute(1, 2, 0).numpy()


@given(
    arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from([0, 3, 23, 149]))
)
@settings(max_examples=50, deadline=None)
def test_label_map_to_masks_and_back(labels: np.ndarray) -> None:
    classes = sorted({int(label) for label in labels.flat})
    layout = Layout([Region("x", label=label) for label in classes], segmentation=labels)
    masks = [region.mask_at(labels.shape) for region in layout.regions]
    np.testing.assert_array_equal(sum(masks), 1)  # every pixel is in one region
    rebuilt = Layout([Region("x", mask=mask, label=label) for mask, label in zip(masks, classes, strict=True)])
    np.testing.assert_array_equal(label_map(rebuilt, labels.shape), labels)
    torch.testing.assert_close(
        control_image(rebuilt, "segmentation", labels.shape), control_image(layout, "segmentation", labels.shape)
    )


def test_segmentation_is_painted_in_the_palette() -> None:
    layout = Layout([], segmentation=np.array([[0, 12], [255, 2]]))
    image = control_image(layout, "segmentation", (2, 2))
    assert image.dtype == torch.float32
    assert image.is_contiguous()
    # wall, person, none, sky: as ADE20K's users know them
    expected = [[[120, 120, 120], [150, 5, 61]], [[0, 0, 0], [6, 230, 230]]]
    np.testing.assert_array_equal(colors_of(image), expected)


def test_regions_are_painted_over_the_background_in_order() -> None:
    regions = [
        Region("left", box=(0, 0, 0.5, 1), label="sofa"),
        Region("top", box=(0, 0, 1, 0.25), label=7),
        Region("less than half of a pixel", box=(0.5, 0.5, 0.6, 1), label=9),
    ]
    s, o = 23, 40
    expected = [[7, 7, 7, 7], [s, s, o, o], [s, s, o, o], [s, s, o, o]]
    np.testing.assert_array_equal(label_map(Layout(regions, background=o), (4, 4)), expected)
    assert label_map(Layout(regions), (4, 4))[3].tolist() == [s, s, 255, 255]


def test_label_map_wins_over_boxes_with_labels() -> None:
    labels = np.array([[1, 2]])
    layout = Layout([Region("x", box=(0, 0, 1, 1), label=5)], segmentation=labels, background=0)
    np.testing.assert_array_equal(label_map(layout, (1, 2)), labels)


@given(st.integers(1, 5), st.integers(1, 5))
def test_label_map_at_other_resolutions(down: int, right: int) -> None:
    labels = np.array([[1, 2, 3], [4, 5, 6]])
    grown = labels.repeat(down, axis=0).repeat(right, axis=1)
    np.testing.assert_array_equal(label_map(Layout([], segmentation=labels), grown.shape), grown)
    np.testing.assert_array_equal(label_map(Layout([], segmentation=grown), labels.shape), labels)


def test_a_pixel_takes_the_class_at_its_centre() -> None:
    layout = Layout([], segmentation=np.arange(25).reshape(5, 5))
    assert label_map(layout, (1, 1)).tolist() == [[12]]
    assert label_map(layout, (2, 1)).tolist() == [[7], [17]]  # rows 1 and 3 hold a quarter and three quarters of 5


def test_other_palettes() -> None:
    palette = Palette(("ground", "ball"), np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint8))
    layout = Layout([], segmentation=np.array([[1, 0]]))
    np.testing.assert_array_equal(
        colors_of(control_image(layout, "segmentation", (1, 2), palette)), [[[4, 5, 6], [1, 2, 3]]]
    )
    with pytest.raises(RealCompoError, match="class id 2 is not in the palette, whose ids are 0 to 1"):
        control_image(Layout([], segmentation=np.array([[2]])), "segmentation", (1, 1), palette)


def test_tabletop_reads_the_first_colours_of_ade20k() -> None:
    first = [[120, 120, 120], [180, 120, 120], [6, 230, 230], [80, 50, 50], [4, 200, 3]]
    np.testing.assert_array_equal(ade20k().colors[:5], first)


@pytest.mark.parametrize("size", [(8, 12), (3, 5), (20, 16)])
def test_depth_is_resampled_as_pytorch_does(size: tuple[int, int]) -> None:
    depth = np.random.default_rng(0).random((8, 12), dtype=np.float32)
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(depth)[None, None], size=size, mode="bilinear", antialias=True
    )[0]
    image = control_image(Layout([], depth=depth), "depth", size)
    torch.testing.assert_close(image, wanted.expand(3, -1, -1), atol=1e-5, rtol=0)


def test_openpose_draws_regions_with_keypoints_alone() -> None:
    person = Region("a dancer", keypoints=[(0.2, 0.25), (0.3, 0.75), *[None] * 16])
    layout = Layout([person, Region("a ball", box=(0.6, 0.1, 0.9, 0.9))])
    image = control_image(layout, "openpose", (64, 64))
    assert image[:, :, :32].amax() == 1
    assert image[:, :, 32:].amax() == 0


BOX = Region("a ball", box=(0, 0, 1, 1))


@pytest.mark.parametrize(
    ("kind", "layout", "message"),
    [
        ("openpose", Layout([BOX]), "no region of the layout has keypoints"),
        ("openpose", Layout([BOX, Region("x", keypoints=[(0, 0.1), (1, 1)])]), "regions.1.keypoints has 2 points"),
        ("segmentation", Layout([]), "neither segmentation, nor background, nor regions with a label"),
        (
            "segmentation",
            Layout([Region("x", mask=np.eye(2), label=1), BOX]),
            "'a ball' has no label .* regions.1.label",
        ),
        ("segmentation", Layout([], segmentation=np.array([[150]])), "class id 150 is not in the palette"),
        ("depth", Layout([BOX]), "the layout has no depth"),
    ],
)
def test_layouts_that_lack_what_a_control_is_drawn_from(kind: str, layout: Layout, message: str) -> None:
    with pytest.raises(RealCompoError, match=message):
        control_image(layout, kind, (8, 8))


@pytest.mark.parametrize(
    ("name", "kind", "regions"),
    [
        ("keypoints", "openpose", ["a woman in a red dress", "a man in a black suit"]),
        ("segmentation", "segmentation", ["a green sofa", "a tall lamp", "a painting of the sea"]),
        ("masks", "segmentation", ["a red ball", "a blue cube"]),
        ("depth", "depth", ["a red ball", "a blue cube"]),
        ("canny", "canny", ["a red ball", "a blue cube"]),
    ],
)
def test_examples(name: str, kind: str, regions: list[str]) -> None:
    layout = Layout.from_file(EXAMPLES / name / "layout.json")
    assert [region.phrase for region in layout.regions] == regions
    assert layout.prompt
    assert all(phrase in layout.prompt for phrase in regions)
    image = control_image(layout, kind, (96, 64))
    assert image.shape == (3, 96, 64)
    for region in layout.regions:  # something is drawn in every region that is not around it
        inside = torch.from_numpy(region.mask_at((96, 64))) > 0.99
        assert image[:, inside].unique(dim=1).shape[1] > (1 if kind != "segmentation" else 0)
        assert not torch.equal(image[:, inside].mean(dim=1), image[:, ~inside].mean(dim=1))


def test_depth_of_the_example() -> None:
    """The ball is nearer than the cube, and both nearer than the ground behind them."""
    layout = Layout.from_file(EXAMPLES / "depth" / "layout.json")
    image: Any = control_image(layout, "depth", (64, 64))[0]
    assert Image.open(EXAMPLES / "depth" / "depth.png").mode == "I;16"
    assert image[43, 17] > image[22, 46] > image[2, 2]
