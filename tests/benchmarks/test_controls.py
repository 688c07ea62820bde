import numpy as np
import pytest
import torch
from scipy import ndimage

from benchmarks.tabletop.controls import control_images, control_map
from benchmarks.tabletop.scenes import Scene, Thing, label_map, sample_scene
from runtime import Layout, Region
from runtime.spatial.control_images import control_image

SCENE = Scene("", "attribute", (Thing("ring", "red", (0.25, 0.25, 0.75, 0.75)),))


def test_segmentation_by_the_palette_of_ade20k():
    """Its "tree", id 4, is (4, 200, 3) and its "wall", id 0, (120, 120, 120): ours are the ring and the ground."""
    (image,) = control_images(torch.from_numpy(control_map(SCENE, "segmentation"))[None], "segmentation")
    assert image.shape == (3, 128, 128) and image.dtype == torch.float32
    ring, hole, corner = ((255 * image[:, 64, x]).round().int().tolist() for x in (40, 64, 0))
    assert ring == [4, 200, 3] and hole == corner == [120, 120, 120]


def test_depth_is_grey_and_near_is_bright():
    """The ground at row y is at 0.6 * (y + 1/2) / 128, in 255ths as an 8-bit PNG holds it."""
    (image,) = control_images(torch.from_numpy(control_map(SCENE, "depth"))[None], "depth")
    assert image.shape == (3, 128, 128) and torch.equal(image[0], image[1]) and torch.equal(image[0], image[2])
    ground = np.round(255 * 0.6 * (np.arange(128) + 0.5) / 128) / 255
    assert image[0, :, 0].tolist() == pytest.approx(ground.tolist())
    assert image[0, 64, 40] > image[0, 64, 64] + 0.1  # the ring is nearer than the ground that its hole shows


@pytest.mark.parametrize(("kind", "lines", "apart"), [("ball", 1, 2), ("cone", 1, 2), ("ring", 2, 3), ("cube", 1, 4)])
def test_edges_are_outlines(kind, lines, apart):
    """Closed lines a pixel wide: as many as the silhouette has borders, and within a pixel of one, but for a cube's."""
    scene = Scene("", "attribute", (Thing(kind, "red", (0.2, 0.25, 0.7, 0.75)),))
    edges, inside = control_map(scene, "canny") > 0, label_map(scene) > 0
    assert edges.dtype == bool and set(np.unique(control_map(scene, "canny"))) == {0, 255}
    grown = ndimage.binary_dilation(inside, iterations=2) & ~ndimage.binary_erosion(inside, iterations=2)
    assert not (edges & ~ndimage.binary_dilation(inside, iterations=2)).any()
    assert (edges & ~grown).any() == (kind == "cube")  # its inner edges
    assert ndimage.label(edges, np.ones((3, 3)))[1] == lines
    assert ndimage.label(~edges)[1] == apart  # regions that the lines keep apart


def test_edges_have_no_colours():
    scenes = [Scene("", "attribute", (Thing("ball", color, (0.2, 0.2, 0.6, 0.6)),)) for color in ("red", "blue")]
    assert np.array_equal(*(control_map(scene, "canny") for scene in scenes))


@pytest.mark.parametrize("kind", ["segmentation", "depth", "canny"])
def test_they_are_what_the_runtime_shows_a_controlnet(kind):
    """Of a layout that carries the map, as a user's does."""
    scene = sample_scene(np.random.default_rng(0), "complex")
    asked = control_map(scene, kind)
    carried = {"control": {kind: np.dstack([asked] * 3)}} if kind == "canny" else {kind: asked}
    layout = Layout([Region(thing.phrase, box=thing.box) for thing in scene.things], **carried)
    (ours,) = control_images(torch.from_numpy(asked)[None], kind)
    torch.testing.assert_close(ours, control_image(layout, kind, (128, 128)), rtol=0, atol=1e-6)
