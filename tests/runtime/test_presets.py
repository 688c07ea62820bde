"""Drawing with the mode that a study has stored in a bundle."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from runtime import Layout, RealCompo, RealCompoError
from runtime.__main__ import app
from runtime.bundle.manifest import RecommendedSpec, read_manifest, write_manifest
from tests.runtime.test_main import PROMPT, REGIONS, assert_refused

KNOBS = {"steps": 5, "sampler": "ddim", "guidance_scale": 2.5, "gradient": "handover", "switch_step": 2}


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    path = tmp_path / "layout.json"
    path.write_text(json.dumps({"prompt": PROMPT, "regions": REGIONS}))
    return path


@pytest.fixture
def studied(bundle: Path, tmp_path: Path) -> Path:
    return store(Path(shutil.copytree(bundle, tmp_path / "studied")), KNOBS)


def store(bundle: Path, knobs: dict[str, bool | int | float | str]) -> Path:
    spec = RecommendedSpec(knobs=knobs, why="it is the best", command="python -m benchmarks study X --save")
    write_manifest(bundle, read_manifest(bundle).model_copy(update={"recommended": spec}))
    return bundle


def generate(bundle: Path, layout: Path, *arguments: object) -> Result:
    words = ["generate", bundle, "--layout", layout, "--out", layout.parent / "image.png", *arguments]
    return CliRunner().invoke(app, list(map(str, words)))


def test_a_manifest_keeps_the_types_of_its_knobs(studied: Path) -> None:
    spec = read_manifest(studied).recommended
    assert spec is not None and spec.knobs == KNOBS
    assert {name: type(value) for name, value in spec.knobs.items()} == {name: type(v) for name, v in KNOBS.items()}


def test_the_command_draws_with_the_stored_knobs(studied: Path, pipe: RealCompo, layout: Path) -> None:
    result = generate(studied, layout, "--preset", "recommended", "--seed", 4)
    assert result.exit_code == 0, result.stderr
    wanted = pipe(PROMPT, layout=Layout.from_file(layout), seed=4, **KNOBS).images[0]
    np.testing.assert_array_equal(np.asarray(Image.open(layout.parent / "image.png")), np.asarray(wanted))


def test_what_is_given_comes_first_even_if_it_is_a_default(studied: Path, pipe: RealCompo, layout: Path) -> None:
    result = generate(studied, layout, "--preset", "recommended", "--gradient", "exact", "--guidance-scale", 7.5)
    assert result.exit_code == 0, result.stderr
    told = KNOBS | {"gradient": "exact", "guidance_scale": 7.5}
    wanted = pipe(PROMPT, layout=Layout.from_file(layout), **told).images[0]
    np.testing.assert_array_equal(np.asarray(Image.open(layout.parent / "image.png")), np.asarray(wanted))


def test_the_switch_moves_with_the_steps(studied: Path) -> None:
    opened = RealCompo.load(studied)
    assert opened.preset("recommended") == KNOBS
    assert opened.preset("recommended", steps=10, seed=1) == KNOBS | {"steps": 10, "switch_step": 4, "seed": 1}
    assert opened.preset("recommended", steps=10, switch_step=3)["switch_step"] == 3


def test_a_bundle_without_a_study_says_how_to_get_one(bundle: Path, pipe: RealCompo, layout: Path) -> None:
    assert_refused(generate(bundle, layout, "--preset", "recommended"), "python -m benchmarks study BUNDLE --save")
    with pytest.raises(RealCompoError, match="no recommended mode"):
        pipe.preset("recommended")


def test_an_unknown_preset_is_named(studied: Path, layout: Path) -> None:
    assert_refused(generate(studied, layout, "--preset", "best"), "preset 'best' is unknown; use recommended")


def test_an_unknown_knob_in_a_manifest_is_named(studied: Path, layout: Path) -> None:
    store(studied, {"gradient": "none", "magic": 3})
    assert_refused(generate(studied, layout, "--preset", "recommended"), "unknown option 'magic'")
