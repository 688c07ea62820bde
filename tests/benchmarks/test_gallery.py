"""The gallery: every picture is what the pipeline draws of the scene."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.drawing import SceneSampling
from benchmarks.gallery.figures import columns_of, draw_gallery
from benchmarks.gallery.measure import draw_row
from benchmarks.tabletop.layouts import layout_of
from benchmarks.tabletop.scenes import held_out_scenes
from runtime import RealCompo

SAMPLING = SceneSampling(steps=5, sampler="dpm++2m", guidance_scale=2.5, batch=1)


def test_a_row_is_what_the_models_draw(tabletop_bundle: Path) -> None:
    scene = held_out_scenes(1)[0]
    row = draw_row(tabletop_bundle, scene, SAMPLING, seed=4)
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
    row = draw_row(tabletop_bundle, scene, SAMPLING, seed=4, modes=["exact", "recommended"])
    pipe = RealCompo.load(tabletop_bundle)
    given = {"steps": 5, "sampler": "dpm++2m", "guidance_scale": 2.5, "seed": 4}
    drawn = pipe(scene.caption, layout=layout_of(scene), **pipe.preset("recommended", **given))
    assert len(row.images) == 4 and np.array_equal(np.asarray(row.images[-1]), np.asarray(drawn.images[0]))


def test_regions_may_be_given_as_keypoints(tabletop_bundle: Path) -> None:
    scene = held_out_scenes(1)[0]
    boxes, points = (
        draw_row(tabletop_bundle, scene, replace(SAMPLING, regions=kind), seed=4) for kind in ("box", "keypoints")
    )
    assert points.name == "keypoints" and all(region.keypoints for region in points.layout.regions)
    assert np.array_equal(np.asarray(points.images[0]), np.asarray(boxes.images[0]))  # text-to-image sees neither
    assert not np.array_equal(np.asarray(points.images[2]), np.asarray(boxes.images[2]))


def test_a_gallery_has_a_line_for_each_bundle(tabletop_bundle: Path) -> None:
    scene = held_out_scenes(1)[0]
    row = draw_row(tabletop_bundle, scene, SAMPLING, seed=0)
    figure = draw_gallery([row, row], scene.caption)
    assert len(figure.axes) == 2 * len(columns_of(["exact"])) and figure.axes[0].get_ylabel() == "layout"
    assert len(figure.axes[0].patches) == 2 * len(scene.things)  # each box on its rim


def test_the_command_writes_a_picture(tabletop_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "gallery.png"
    found = CliRunner().invoke(app, ["gallery", f"{tabletop_bundle}:keypoints", "--steps", "2", "--out", str(out)])
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout.splitlines()[-1])["picture"] == str(out)
    assert Image.open(out).size[0] > 500


def test_a_missing_bundle_is_one_line(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["gallery", str(tmp_path), "--out", str(tmp_path / "gallery.png")])
    assert found.exit_code == 2 and "is not a bundle" in found.output
