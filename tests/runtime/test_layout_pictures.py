"""Pictures of layouts: what is outlined is where the regions are."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.contour import ContourSet
from PIL import Image

from runtime import Layout, Region
from runtime.layouts.pictures import draw_layout, region_colors

MASK = np.zeros((20, 10), dtype=bool)
MASK[10:, 2:5] = True  # down to the lower edge
BLANK = Image.new("RGB", (64, 128), "white")


def test_a_mask_is_outlined_along_its_pixels_and_tinted() -> None:
    (axes,) = draw_layout(BLANK, "a ball", Layout([Region("a ball", mask=MASK)])).axes
    filled, *lines = [drawn for drawn in axes.collections if isinstance(drawn, ContourSet)]
    assert filled.get_alpha() == 0.35
    for contour in (filled, *lines):
        box = contour.get_paths()[0].get_extents()
        assert (box.x0, box.y0, box.x1, box.y1) == pytest.approx((0.2, 0.5, 0.5, 1.0), abs=1 / 200)


def test_thin_masks_are_not_lost() -> None:
    thin = np.zeros((1024, 1024), dtype=bool)
    thin[:, 700] = True
    (axes,) = draw_layout(BLANK, "a pole", Layout([Region("a pole", mask=thin)])).axes
    assert all(drawn.get_paths()[0].vertices.size for drawn in axes.collections)


def test_people_have_the_limbs_that_are_seen() -> None:
    body = [(0.5, 0.1), (0.5, 0.3), (0.3, 0.3), None, (0.2, 0.6), *[None] * 13]  # nose, neck, shoulder, no elbow, wrist
    (axes,) = draw_layout(BLANK, "a dancer", Layout([Region("a dancer", keypoints=body)])).axes
    limbs = {tuple(zip(*line.get_data(), strict=True)): to_rgb(line.get_color()) for line in axes.lines}
    assert limbs == {
        ((0.5, 0.3), (0.3, 0.3)): (1, 0, 0),
        ((0.5, 0.3), (0.5, 0.1)): (0, 0, 1),
    }
    np.testing.assert_allclose(axes.collections[-1].get_offsets(), [point for point in body if point])


def test_boxes_and_points_that_are_no_body() -> None:
    layout = Layout([Region("x", box=(0.1, 0.2, 0.5, 0.6)), Region("y", keypoints=[(0, 0.1), (0.9, 0.8)])])
    (axes,) = draw_layout(BLANK, "", layout).axes
    boxes = [patch.get_bbox().bounds for patch in axes.patches]
    assert boxes[1] == pytest.approx((0.1, 0.2, 0.4, 0.4))
    assert boxes[3] == pytest.approx((0, 0.1, 0.9, 0.7))
    assert to_rgb(axes.patches[3].get_edgecolor()) == to_rgb(region_colors(layout)[1])
    assert not axes.lines
