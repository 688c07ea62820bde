"""What a request has that does not say: the bundle's own ways to draw, over a socket, against the library alone."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from runtime import RealCompo
from runtime.__main__ import app
from runtime.presets import PRESETS
from tests.runtime.serving.server import Server, serving
from tests.runtime.serving.test_server import LAYOUT, PROMPT, assert_same, library
from tests.runtime.test_presets import KNOBS, RECIPE, distil, store

BODY: dict[str, Any] = {"prompt": PROMPT, "layout": LAYOUT, "seed": 2}
NAMES = {"steps": "num_inference_steps"}


@pytest.fixture(scope="module")
def distilled(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a study's choice in it too, which was drawn without the recipe."""
    return distil(store(Path(shutil.copytree(bundle, tmp_path_factory.mktemp("own") / "bundle")), KNOBS), RECIPE)


@pytest.fixture(scope="module")
def own(distilled: Path) -> Iterator[Server]:
    """Its first mode is not the library's default."""
    with serving(distilled, "--modes", "surrogate", "--modes", "handover", "--max-steps", "20") as running:
        yield running


def fields(server: Server) -> dict[str, dict[str, Any]]:
    return server.ask("GET", "/openapi.json").body["components"]["schemas"]["Generation"]["properties"]


ASKED = [  # and what the library is told, whose own defaults are others
    ({}, RECIPE | {"gradient": "surrogate"}),
    ({"num_inference_steps": 5}, RECIPE | {"gradient": "surrogate", "steps": 5}),
    ({"spacing": None}, RECIPE | {"gradient": "surrogate", "spacing": None}),
    ({"sampler": "lcm"}, {"gradient": "surrogate", "sampler": "lcm", "steps": 3, "guidance_scale": 1.0}),
    ({"guidance_scale": 7.5, "gradient": "handover"}, RECIPE | {"gradient": "handover", "guidance_scale": 7.5}),
    (
        {"preset": "fast", "guidance_scale": 3.0},
        RECIPE | {"gradient": "surrogate", "guidance_scale": 3.0} | PRESETS["fast"].knobs,
    ),
    ({"preset": "recommended"}, KNOBS),
    ({"preset": "recommended", "num_inference_steps": 10}, KNOBS | {"steps": 10, "switch_step": 4}),
    ({"preset": None}, RECIPE | {"gradient": "surrogate"}),
]


@pytest.mark.parametrize(("asked", "told"), ASKED, ids=lambda value: str(value)[:40])
def test_a_request_that_does_not_say(own: Server, pipe: RealCompo, asked: dict[str, Any], told: dict[str, Any]) -> None:
    assert_same(own.draw(BODY | asked), library(pipe, BODY, **told))


def test_what_generate_draws(own: Server, distilled: Path, tmp_path: Path) -> None:
    """In the same mode, for its server's first one is another."""
    layout = tmp_path / "layout.json"
    layout.write_text(json.dumps({"prompt": PROMPT, **LAYOUT}))
    words = ["--layout", layout, "--gradient", "surrogate", "--seed", 2, "--out", tmp_path / "x.png"]
    done = CliRunner().invoke(app, ["generate", str(distilled), *map(str, words)])
    assert done.exit_code == 0, done.stderr
    assert np.array_equal(own.draw(BODY).pixels(0), np.asarray(Image.open(tmp_path / "x.png")))


def test_the_schema_has_the_bundles_defaults_and_modes(own: Server, server: Server) -> None:
    wanted = {NAMES.get(name, name): value for name, value in RECIPE.items()} | {"gradient": "surrogate"}
    found = fields(own)
    assert {name: found[name]["default"] for name in wanted} == wanted
    assert "exact" not in found["gradient"]["description"] and "handover, " in found["gradient"]["description"]
    assert "model's own" not in found["spacing"]["description"]
    plain = fields(server)
    assert [plain[name]["default"] for name in wanted] == ["plms", None, 50, 7.5, "exact"]
    assert "(minimum 1, default 3)" in own.ask("GET", "/docs").text


def test_models_say_what_can_be_asked_for(own: Server, server: Server) -> None:
    (model,) = own.ask("GET", "/v1/models").body["data"]
    assert model["gradients"] == ["surrogate", "handover"]
    named = {NAMES.get(name, name): value for name, value in RECIPE.items()} | {"gradient": "surrogate"}
    stored = {NAMES.get(name, name): value for name, value in KNOBS.items()}
    fast = {"update_every": 4, "guidance_interval": [0.0, 0.6]}
    assert model["presets"] == {"recommended": stored, "paper": named, "fast": named | fast}
    (model,) = server.ask("GET", "/v1/models").body["data"]
    assert model["gradients"] == ["exact", "surrogate", "none", "fixed:0.5", "handover", "text_to_image", "spatial"]
    assert list(model["presets"]) == ["paper", "fast"]


@pytest.mark.parametrize(
    ("asked", "param", "line"),
    [
        ({"preset": "best"}, "preset", "preset='best' is unknown; use recommended, paper, fast"),
        ({"preset": 3}, "preset", "valid string"),
        ({"preset": "recommended", "num_inference_steps": 21}, "num_inference_steps", "use 1 to 20"),
        ({"gradient": "exact"}, "gradient", "is not among the modes that are loaded, surrogate, handover"),
        ({"spacing": "trailing", "sampler": "lcm"}, "spacing", "give another sampler, or no spacing"),
    ],
)
def test_what_does_not_go_is_named(own: Server, asked: dict[str, Any], param: str, line: str) -> None:
    answer = own.draw(BODY | asked)
    assert (answer.status, answer.error["param"]) == (400, param)
    assert line in answer.error["message"]


def test_a_preset_that_the_bundle_has_not(server: Server) -> None:
    answer = server.draw(BODY | {"preset": "recommended"})
    assert (answer.status, answer.error["param"]) == (400, "preset")
    assert "no study has been stored in it" in answer.error["message"]


def test_a_constant_weight_may_be_the_first_mode(bundle: Path, pipe: RealCompo) -> None:
    with serving(bundle, "--modes", "fixed", "--modes", "text_to_image") as server:
        assert_same(server.draw(BODY | {"num_inference_steps": 4}), library(pipe, BODY, steps=4, gradient="fixed:0.5"))
        assert fields(server)["gradient"]["default"] == "fixed:0.5"


def test_a_recommended_mode_that_is_not_loaded_is_not_offered(distilled: Path) -> None:
    with serving(distilled, "--modes", "spatial") as server:
        (model,) = server.ask("GET", "/v1/models").body["data"]
        assert list(model["presets"]) == ["paper", "fast"]
        refused = server.draw(BODY | {"preset": "recommended"})
        assert (refused.status, refused.error["param"]) == (400, "gradient")


@pytest.mark.parametrize(
    ("knobs", "line"),
    [
        ({"magic": 3}, "the bundle's distilled model's recipe has an unknown option 'magic'. Build the bundle again"),
        (
            {"steps": "few"},
            "recipe is damaged: steps='few' is of the wrong type; give a whole number. Build the bundle again",
        ),
    ],
)
def test_a_recipe_that_is_damaged_is_told_at_the_start(
    bundle: Path, tmp_path: Path, knobs: dict[str, Any], line: str
) -> None:
    damaged = distil(Path(shutil.copytree(bundle, tmp_path / "damaged")), knobs)
    done = CliRunner().invoke(app, ["serve", str(damaged), "--port", "0"])
    assert done.exit_code == 2 and done.stderr.count("\n") == 1 and line in done.stderr
