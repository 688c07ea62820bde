"""Control images of kind `scribble` against outlines drawn by Pillow, and by counting."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from runtime import Layout, RealCompoError, Region
from runtime.__main__ import app
from runtime.spatial.control_images import control_image

BOX = Region("a ball", box=(0.25, 0.25, 0.75, 0.5))


def test_a_box_is_a_frame_as_pillow_draws_it() -> None:
    """At 128 pixels the pen is one pixel to either side of the edges."""
    found = control_image(Layout([BOX]), "scribble", (128, 128))
    frame = Image.new("L", (128, 128))
    ImageDraw.Draw(frame).rectangle((31, 31, 96, 64), outline=255, width=2)
    assert found.shape == (3, 128, 128)
    assert all(np.array_equal(channel, np.asarray(frame) / 255) for channel in found.numpy())


def test_the_pen_grows_with_the_picture() -> None:
    lines = control_image(Layout([BOX]), "scribble", (512, 768))[0]
    assert int(lines[:, 384].sum()) == 2 * 8  # two edges crossed, 4 pixels to either side of each


def test_masks_keep_their_shape() -> None:
    """A disc's outline lies around its circle."""
    y, x = (np.mgrid[:256, :256] + 0.5) / 256
    distance = np.hypot(x - 0.5, y - 0.5)
    lines = control_image(Layout([Region("a ball", mask=distance < 0.3)]), "scribble", (256, 256))[0].numpy() > 0
    assert np.abs(distance[lines] - 0.3).max() < 3.5 * np.sqrt(2) / 256
    assert lines[np.abs(distance - 0.3) < 1 / 256].all()


def test_regions_are_drawn_over_each_other() -> None:
    other = Region("a cube", box=(0.5, 0.4, 0.9, 0.9))
    both = control_image(Layout([BOX, other]), "scribble", (64, 64))
    each = [control_image(Layout([region]), "scribble", (64, 64)) for region in (BOX, other)]
    assert both.equal(each[0].maximum(each[1]))


def test_a_layout_without_regions_is_refused() -> None:
    with pytest.raises(RealCompoError, match="no regions to draw scribble's control image from"):
        control_image(Layout([]), "scribble", (64, 64))


def test_the_command_line_knows_it(tmp_path: Path) -> None:
    layout, out = tmp_path / "layout.json", tmp_path / "scribble.png"
    layout.write_text('{"regions": [{"phrase": "a ball", "box": [0.2, 0.2, 0.8, 0.8]}]}')
    result = CliRunner().invoke(app, ["show", str(layout), "--control", "scribble", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert set(np.unique(np.asarray(Image.open(out)))) == {0, 255}
