import numpy as np
import pytest
import torch

from benchmarks.tabletop.controls import control_images, control_map
from benchmarks.tabletop.scenes import Scene, Thing, sample_scene
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


@pytest.mark.parametrize("kind", ["segmentation", "depth"])
def test_they_are_what_the_runtime_shows_a_controlnet(kind):
    """Of a layout that carries the map, as a user's does."""
    scene = sample_scene(np.random.default_rng(0), "complex")
    asked = control_map(scene, kind)
    layout = Layout([Region(thing.phrase, box=thing.box) for thing in scene.things], **{kind: asked})
    (ours,) = control_images(torch.from_numpy(asked)[None], kind)
    torch.testing.assert_close(ours, control_image(layout, kind, (128, 128)), rtol=0, atol=1e-6)
