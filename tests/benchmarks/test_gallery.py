"""The gallery: every picture is what the pipeline draws of the scene."""

import json
from itertools import permutations
from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.drawing import SceneSampling
from benchmarks.gallery.figures import columns_of, draw_gallery
from benchmarks.gallery.measure import draw_row
from benchmarks.gallery.subjects import SUBJECTS
from benchmarks.scenes.worlds import CAMERA, worlds
from benchmarks.tabletop.layouts import layout_of
from benchmarks.tabletop.scenes import held_out_scenes
from runtime import RealCompo
from runtime.scenes import Scene

SAMPLING = SceneSampling(steps=5, sampler="dpm++2m", guidance_scale=2.5, batch=1)


def test_a_row_is_what_the_models_draw(tabletop_bundle: Path) -> None:
    scene = held_out_scenes(1)[0]
    row = draw_row(tabletop_bundle, SUBJECTS["box"](0), SAMPLING, seed=4)
    assert row.name == "layout" and len(row.layout.regions) == len(scene.things)
    for mode, image in zip(("text_to_image", "spatial", "exact"), row.images, strict=True):
        drawn = RealCompo.load(tabletop_bundle)(
            scene.caption,
            layout=layout_of(scene),
            seed=4,
            steps=5,
            sampler="dpm++2m",
            guidance_scale=2.5,
            gradient=mode,
        )
        assert np.array_equal(np.asarray(image), np.asarray(drawn.images[0]))
    before_the_switch = 2 / 5  # evaluations of the spatial model alone, weight 1
    assert row.weight.shape == (16, 16) and before_the_switch <= row.weight.min() <= row.weight.max() <= 1


def test_the_recommended_mode_is_the_bundle_s(tabletop_bundle: Path) -> None:
    scene = held_out_scenes(1)[0]
    row = draw_row(tabletop_bundle, SUBJECTS["box"](0), SAMPLING, seed=4, modes=["exact", "recommended"])
    pipe = RealCompo.load(tabletop_bundle)
    given = {"steps": 5, "sampler": "dpm++2m", "guidance_scale": 2.5, "seed": 4}
    drawn = pipe(scene.caption, layout=layout_of(scene), **pipe.preset("recommended", **given))
    assert len(row.images) == 4 and np.array_equal(np.asarray(row.images[-1]), np.asarray(drawn.images[0]))


def test_regions_may_be_given_as_keypoints(tabletop_bundle: Path) -> None:
    boxes, points = (
        draw_row(tabletop_bundle, SUBJECTS[places](0), SAMPLING, seed=4) for places in ("box", "keypoints")
    )
    assert points.name == "keypoints" and all(region.keypoints for region in points.layout.regions)
    assert np.array_equal(np.asarray(points.images[0]), np.asarray(boxes.images[0]))  # text-to-image sees neither
    assert not np.array_equal(np.asarray(points.images[2]), np.asarray(boxes.images[2]))


def test_a_3d_scene_s_row_is_what_its_depth_gives(tabletop_depth_bundle: Path) -> None:
    """What is given is near where the scene's geometry is near: seen from the camera, by the objects' middles."""
    world = worlds(9)[8]  # three objects, in front of and behind each other
    row = draw_row(tabletop_depth_bundle, SUBJECTS["scene"](8), SAMPLING, seed=4, modes=["surrogate"])
    assert row.name == "3D scene\ndepth\nControlNet" and row.caption == world.asked.caption and not row.outlined
    pipe = RealCompo.load(tabletop_depth_bundle)
    for mode, image in zip(("text_to_image", "spatial", "surrogate"), row.images, strict=True):
        options = {"steps": 5, "sampler": "dpm++2m", "guidance_scale": 2.5, "seed": 4, "gradient": mode}
        drawn = pipe(world.scene.prompt, layout=world.scene.layout((128, 128)), **options)
        assert np.array_equal(np.asarray(image), np.asarray(drawn.images[0]))
    given = np.asarray(row.given[0])[..., 0]
    brightness = [given[world.shot.shown == i].mean() for i in range(3)]
    distance = [np.linalg.norm(np.subtract(placed(world.scene, i), CAMERA.position)) for i in range(3)]
    apart = [(i, j) for i, j in permutations(range(3), 2) if distance[i] + 0.5 < distance[j]]  # plainly
    assert len(apart) == 2 and all(brightness[i] > brightness[j] for i, j in apart)


def placed(scene: Scene, number: int) -> np.ndarray:
    """(3,) metres: the middle of an object's corners."""
    return scene.solids[number].mesh.points.mean(axis=0)


def test_a_gallery_has_a_line_for_each_bundle(tabletop_bundle: Path) -> None:
    flat, solid = (draw_row(tabletop_bundle, SUBJECTS[places](2), SAMPLING, seed=0) for places in ("box", "scene"))
    figure = draw_gallery([flat, flat, solid, solid])
    assert len(figure.axes) == 4 * len(columns_of(["exact"])) and figure.axes[0].get_ylabel() == "layout"
    assert len(figure.axes[0].patches) == 2 * len(held_out_scenes(3)[2].things)  # each box on its rim
    firsts = figure.axes[:: len(columns_of(["exact"]))]
    assert [axes.get_title(loc="left") for axes in firsts] == ["", "", worlds(3)[2].asked.caption, ""]
    assert figure.get_suptitle() == held_out_scenes(3)[2].caption and firsts[2].get_ylabel() == "3D scene\nlayout"


def test_the_command_writes_a_picture(tabletop_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "gallery.png"
    bundles = [f"{tabletop_bundle}:{places}" for places in ("keypoints", "scene")]
    found = CliRunner().invoke(app, ["gallery", *bundles, "--steps", "2", "--scene", "1", "--out", str(out)])
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout.splitlines()[-1])
    assert told["picture"] == str(out)
    assert told["captions"] == [held_out_scenes(2)[1].caption, worlds(2)[1].asked.caption]
    assert Image.open(out).size[0] > 500


def test_a_missing_bundle_is_one_line(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["gallery", str(tmp_path), "--out", str(tmp_path / "gallery.png")])
    assert found.exit_code == 2 and "is not a bundle" in found.output
