"""Engines are loaded when a picture first needs them, and those that `modes` leaves out never are."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from runtime import RealCompo, RealCompoError
from runtime.backends import load_engines
from runtime.bundle.manifest import read_manifest
from runtime.modes import MODES, engines_of_modes
from runtime.options import GRADIENTS
from runtime.serving.warm_up import warm_up
from runtime.spatial import KINDS
from runtime.spatial.controlnet import CONTROLNET
from runtime.spatial.gligen import GLIGEN
from runtime.spatial.t2i_adapter import T2I_ADAPTER
from runtime.text.tokens import open_tokenizers
from runtime.words import Role
from tests.runtime.recording import RecordingTensorRT, add_plans, recording_engines, recording_library
from tests.runtime.test_pipeline import LAYOUT, PROMPT

OPTIONS: dict[str, Any] = {"layout": LAYOUT, "steps": 4, "seed": 3}
ONCE = {"text_encoder", "grounding", "vae_decoder"}
BOTH = {*ONCE, "text_to_image", "spatial"}
NEEDED: dict[str, set[str]] = {
    "exact": {*BOTH, "text_to_image_gradient", "spatial_gradient"},
    "surrogate": BOTH,
    "none": BOTH,
    "fixed:0.4": BOTH,
    "handover": BOTH,
    "text_to_image": {"text_encoder", "text_to_image", "vae_decoder"},
    "spatial": {*ONCE, "spatial"},
}


@pytest.fixture
def without_gradients(bundle: Path, tmp_path: Path) -> Path:
    """A bundle whose gradient engines are not there at all."""
    folder = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    for role in ("text_to_image_gradient", "spatial_gradient"):
        for file in read_manifest(folder).engines[role].graph:  # type: ignore[index]
            (folder / file.name).unlink()
    return folder


@pytest.mark.parametrize("gradient", NEEDED)
def test_a_picture_opens_what_it_needs(bundle: Path, pipe: RealCompo, gradient: str) -> None:
    opened = RealCompo.load(bundle)
    assert set(opened._runners) == {"text_encoder"}
    found = opened(PROMPT, gradient=gradient, **OPTIONS)
    assert set(opened._runners) == NEEDED[gradient] == set(found.stats.calls)
    assert torch.equal(found.latents, pipe(PROMPT, gradient=gradient, **OPTIONS).latents)


@pytest.mark.parametrize("gradient", [gradient for gradient in NEEDED if gradient != "exact"])
def test_gradient_engines_need_not_be_there(without_gradients: Path, pipe: RealCompo, gradient: str) -> None:
    """The files are gone: whoever opened, mapped or hashed one would fail."""
    opened = RealCompo.load(without_gradients, modes=[gradient.partition(":")[0]])
    assert set(opened._runners) == NEEDED[gradient]
    wanted, found = (one(PROMPT, gradient=gradient, **OPTIONS) for one in (pipe, opened))
    assert torch.equal(found.latents, wanted.latents)


def test_the_released_form_opens_one_gradient_engine(bundle: Path) -> None:
    opened = RealCompo.load(bundle)
    opened(PROMPT, form="released", **OPTIONS)
    assert set(opened._runners) == {*BOTH, "spatial_gradient"}


def test_a_mode_that_is_not_loaded(without_gradients: Path) -> None:
    opened = RealCompo.load(without_gradients, modes=("surrogate", "handover"))
    line = "gradient='exact' is not among the modes that are loaded, surrogate, handover; use one of these, or load"
    for ask in (opened, opened.check):
        with pytest.raises(RealCompoError, match=line):
            ask(PROMPT, gradient="exact", **OPTIONS)
    assert opened(PROMPT, **OPTIONS).stats.calls["text_to_image_gradient"] == 0  # the first mode is the default


@pytest.mark.parametrize(
    ("modes", "gradient"),
    [
        (("surrogate", "exact"), "surrogate"),
        (("fixed", "handover"), "fixed:0.5"),
        (("handover", "fixed"), "handover"),
        (None, "exact"),
    ],
)
def test_the_first_mode_is_the_default(
    bundle: Path, pipe: RealCompo, modes: tuple[str, ...] | None, gradient: str
) -> None:
    opened = RealCompo.load(bundle, modes=modes)
    assert opened.default_gradient == gradient
    wanted = pipe(PROMPT, gradient=gradient, **OPTIONS).latents
    assert torch.equal(opened(PROMPT, **OPTIONS).latents, wanted)
    assert opened.check(PROMPT, **OPTIONS) == []


def test_a_mode_that_is_named_twice_is_there_once(bundle: Path) -> None:
    assert RealCompo.load(bundle, modes=("spatial", "fixed", "spatial")).gradients == ("spatial", "fixed:0.5")


def test_a_look_at_a_model_that_is_left_out(bundle: Path) -> None:
    opened = RealCompo.load(bundle, modes=("spatial",))
    latents = torch.zeros(1, *opened.manifest.latent_shape)
    with pytest.raises(RealCompoError, match="the engine text_to_image is left out by modes"):
        opened.region_maps(PROMPT, layout=LAYOUT, latents=latents, timestep=500)


@pytest.mark.parametrize(("modes", "line"), [(("magic",), "mode 'magic' is unknown; use exact, "), ((), "is empty")])
def test_modes_that_are_none(bundle: Path, modes: tuple[str, ...], line: str) -> None:
    with pytest.raises(RealCompoError, match=line):
        RealCompo.load(bundle, modes=modes)


def test_each_gradient_is_of_a_mode() -> None:
    assert tuple(gradient.removesuffix(":W") for gradient in GRADIENTS) == MODES


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_exact_takes_every_engine_of_a_shared_unet(kind: Any) -> None:
    own = {CONTROLNET.name: {"controlnet"}, GLIGEN.name: {"grounding"}, T2I_ADAPTER.name: {"adapter"}}[kind.name]
    shared = {"text_encoder", "spatial", "vae_decoder"}
    assert set(engines_of_modes(["exact"], kind, True)) == {*shared, *own, "spatial_gradient"}
    assert set(engines_of_modes(["text_to_image"], kind, True)) == shared


def test_a_server_warms_up_what_it_has(without_gradients: Path) -> None:
    opened = RealCompo.load(without_gradients, modes=("fixed", "text_to_image"))
    assert warm_up(opened)


def test_only_the_roles_that_may_be_are_opened(bundle: Path) -> None:
    engines = load_engines(bundle, read_manifest(bundle), "onnx", "cpu", False, ("spatial",))
    assert dict(engines.runners) == {}
    engines.open(("spatial",))
    assert list(engines.runners) == ["spatial"]
    with pytest.raises(RealCompoError, match="the engine vae_decoder is left out"):
        engines.open(("vae_decoder",))


def test_plans_opened_later_work_beside_those_from_before(
    bundle: Path, tmp_path: Path, pipe: RealCompo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gradient's plan comes after the others have run, and needs more scratch memory than they have."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = Path(shutil.copytree(bundle, tmp_path / "plans"))
    manifest = add_plans(folder, "tensorrt")
    module = RecordingTensorRT()
    engines = replace(recording_engines(recording_library("tensorrt", module), folder), capturable=False)
    drawn = RealCompo(manifest, open_tokenizers(folder, manifest), engines)
    for gradient in ("spatial", "exact", "spatial"):
        found, wanted = (one(PROMPT, gradient=gradient, **OPTIONS) for one in (drawn, pipe))
        torch.testing.assert_close(found.latents, wanted.latents, rtol=1e-4, atol=1e-4)
    sizes: dict[Role, int] = {role: module.of(role, "set_device_memory")[0][2] for role in manifest.engines}
    assert sizes["spatial"] == sizes["vae_decoder"] == 6000  # all of a run are opened before it: one block
    assert sizes["text_encoder"] <= 6000
