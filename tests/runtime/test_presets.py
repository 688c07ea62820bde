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
from runtime.bundle.manifest import RecipeSpec, RecommendedSpec, read_manifest, write_manifest
from runtime.sampling import SAMPLERS
from tests.runtime.test_main import PROMPT, REGIONS, assert_refused

RECIPE = {"sampler": "ddim", "spacing": "trailing", "steps": 3, "guidance_scale": 1.0}
KNOBS = {"steps": 5, "sampler": "ddim", "guidance_scale": 2.5, "gradient": "handover", "switch_step": 2}


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    path = tmp_path / "layout.json"
    path.write_text(json.dumps({"prompt": PROMPT, "regions": REGIONS}))
    return path


@pytest.fixture
def studied(bundle: Path, tmp_path: Path) -> Path:
    return store(Path(shutil.copytree(bundle, tmp_path / "studied")), KNOBS)


@pytest.fixture
def distilled(bundle: Path, tmp_path: Path) -> Path:
    return distil(Path(shutil.copytree(bundle, tmp_path / "distilled")), RECIPE)


def distil(bundle: Path, knobs: dict[str, bool | int | float | str]) -> Path:
    spec = RecipeSpec(name="Hyper-SD", file="hyper-sd.safetensors", knobs=knobs)
    write_manifest(bundle, read_manifest(bundle).model_copy(update={"recipe": spec}))
    return bundle


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
    assert_refused(generate(studied, layout, "--preset", "best"), "preset='best' is unknown; use recommended")


def test_an_unknown_knob_in_a_manifest_is_named(studied: Path, layout: Path) -> None:
    store(studied, {"gradient": "none", "magic": 3})
    assert_refused(generate(studied, layout, "--preset", "recommended"), "unknown option 'magic'")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_any_sampler_can_be_given_instead_of_a_recipes(
    distilled: Path, pipe: RealCompo, layout: Path, sampler: str
) -> None:
    """Trailing spacing stays where a sampler has one: it is how the model was distilled."""
    result = generate(distilled, layout, "--sampler", sampler)
    assert result.exit_code == 0, result.stderr
    spacing = {} if sampler in ("lcm", "tcd") else {"spacing": "trailing"}
    told = {"steps": 3, "guidance_scale": 1.0, "sampler": sampler, **spacing}
    wanted = pipe(PROMPT, layout=Layout.from_file(layout), **told).images[0]
    np.testing.assert_array_equal(np.asarray(Image.open(layout.parent / "image.png")), np.asarray(wanted))
    assert RealCompo.load(distilled).preset("fast", sampler=sampler).items() >= told.items()


def test_a_spacing_that_was_asked_for_is_not_dropped(distilled: Path, layout: Path) -> None:
    distil(distilled, {"sampler": "lcm", "steps": 4, "guidance_scale": 1.0})
    line = "spacing='trailing' is not for sampler='lcm', which has timesteps of its own; give another sampler, or no"
    assert_refused(generate(distilled, layout, "--spacing", "trailing"), line)
    assert generate(distilled, layout, "--spacing", "trailing", "--sampler", "ddim").exit_code == 0


@pytest.mark.parametrize("sampler", ["ddim", "lcm"])
def test_what_a_study_stored_is_all_that_it_drew_with(distilled: Path, sampler: str) -> None:
    """A study tells calls steps, sampler and guidance_scale alone, whatever the bundle's recipe."""
    studied = RealCompo.load(store(distilled, KNOBS | {"sampler": sampler}))
    assert studied.preset("recommended") == KNOBS | {"sampler": sampler}
    assert studied.preset() == RECIPE
    assert studied.preset("recommended", spacing="linspace")["spacing"] == "linspace"


def test_steps_that_are_none(studied: Path) -> None:
    with pytest.raises(RealCompoError, match="steps='8' is of the wrong type"):
        RealCompo.load(studied).preset("recommended", steps="8")
