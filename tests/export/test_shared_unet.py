"""Pairs whose models have one UNet: one engine for both, which draws what an engine each draws."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

import export.build
from benchmarks.roofline.costs import cost_of
from benchmarks.roofline.gpus import GPUS
from benchmarks.roofline.measure import analyse
from export.build import Options, build
from export.pairs import Pair
from export.spatial import share_unet
from runtime import Layout, RealCompo, Region
from runtime.bundle.manifest import read_manifest
from runtime.errors import RealCompoError
from tests.benchmarks.profiles import assert_profiled, profile, run
from tests.export.conftest import make_unet
from tests.export.opening import open_checkpoints

LAYOUT = Layout([Region("red ball", box=(0.1, 0.1, 0.6, 0.6))])


@pytest.fixture(scope="module")
def shared_pair(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The tiny pair, with a spatial UNet that is the text-to-image one and GLIGEN's layers."""
    folder = tmp_path_factory.mktemp("shared")
    torch.manual_seed(1)
    grounded = make_unet(grounded=True)
    base = UNet2DConditionModel.from_pretrained(Path(pair.text_to_image) / "unet")
    grounded.load_state_dict(base.state_dict(), strict=False)
    grounded.save_pretrained(folder / "unet")
    return Pair("tiny", pair.text_to_image, str(folder), "")


@pytest.fixture(scope="module")
def bundles(shared_pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Of one engine for both models, and of one each."""
    one, each = (tmp_path_factory.mktemp(name) for name in ("one", "each"))
    build(shared_pair, one, Options())
    for part in one.iterdir():  # the parts in common need not be built again
        (each / part.name).write_bytes(part.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export.build, "share_unet", lambda _: False)
        build(shared_pair, each, Options())
    assert set(read_manifest(each).engines) - set(read_manifest(one).engines) == {
        "text_to_image",
        "text_to_image_gradient",
    }
    return one, each


@pytest.fixture(scope="module")
def pipes(bundles: tuple[Path, Path]) -> tuple[RealCompo, RealCompo]:
    one, each = bundles
    return RealCompo.load(one), RealCompo.load(each)


def test_only_equal_weights_are_shared(pair: Pair, shared_pair: Pair, tmp_path: Path) -> None:
    assert share_unet(open_checkpoints(shared_pair.text_to_image, shared_pair.spatial))
    assert not share_unet(open_checkpoints(pair.text_to_image, pair.spatial))
    unet = UNet2DConditionModel.from_pretrained(Path(shared_pair.spatial) / "unet")
    unet.conv_out.bias.data[0] += 1e-3
    unet.save_pretrained(tmp_path / "unet")
    assert not share_unet(open_checkpoints(shared_pair.text_to_image, str(tmp_path)))


@pytest.mark.parametrize(
    ("gradient", "form"),
    [(gradient, "paper") for gradient in ("exact", "surrogate", "none", "text_to_image", "spatial")]
    + [("exact", "released")],
)
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_one_engine_draws_what_two_draw(
    pipes: tuple[RealCompo, RealCompo], gradient: str, form: str, guidance_scale: float
) -> None:
    one, each = (
        pipe(
            ["red ball", "a red ball"],
            layout=LAYOUT,
            steps=4,
            switch_step=1,
            gradient=gradient,
            form=form,
            guidance_scale=guidance_scale,
            sampler="plms",
            coefficient_scale=1e3,
            grounding_fraction=0.8,
        )
        for pipe in pipes
    )
    torch.testing.assert_close(one.latents, each.latents, rtol=1e-3, atol=1e-4)
    assert one.stats.rows["text_to_image"] == 0
    assert one.stats.rows["spatial"] == each.stats.rows["spatial"] + each.stats.rows["text_to_image"]
    assert one.stats.calls["spatial"] == 5  # PLMS evaluates once more


def test_one_gradient_alone(pipes: tuple[RealCompo, RealCompo]) -> None:
    one, each = (
        pipe("red ball", layout=LAYOUT, steps=2, switch_step=0, gradient_from=("text_to_image",), trace=True)
        for pipe in pipes
    )
    for found, wanted in zip(one.trace, each.trace, strict=True):
        assert found.gradient is not None and wanted.gradient is not None
        torch.testing.assert_close(found.gradient, wanted.gradient, rtol=1e-3, atol=1e-9)


def test_without_a_layout(pipes: tuple[RealCompo, RealCompo]) -> None:
    one, each = (pipe("red ball", steps=2, gradient="text_to_image") for pipe in pipes)
    torch.testing.assert_close(one.latents, each.latents, rtol=1e-4, atol=1e-5)


def test_an_engine_that_is_not_shared_must_be_there(own_bundle: Path) -> None:
    manifest = json.loads((own_bundle / "manifest.json").read_text())
    del manifest["engines"]["text_to_image"]
    (own_bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RealCompoError, match="has no text_to_image engine"):
        RealCompo.load(own_bundle)


def test_profiled_rows_are_those_of_an_image(bundles: tuple[Path, Path], pipes: tuple[RealCompo, RealCompo]) -> None:
    """One engine does both models' rows."""
    profiles = profile(bundles[0])
    layout = Layout([*LAYOUT.regions, Region("a", box=(0.5, 0.4, 0.9, 1.0), tokens=[1])])
    assert_profiled(profiles, run(pipes[0], "a red ball", layout))
    assert {(found.role, found.rows): found.calls for found in profiles} == {
        ("text_encoder", 4): 1,
        ("grounding", 2): 1,
        ("spatial", 2): 1,
        ("spatial", 4): 2,
        ("spatial_gradient", 2): 2,
        ("vae_decoder", 1): 1,
    }


def test_the_rooflines_weights_are_each_engines_once(bundles: tuple[Path, Path]) -> None:
    found = analyse(bundles[0], GPUS["h100"], steps=2)
    files = {role: bundles[0] / engine.graph[0].name for role, engine in read_manifest(bundles[0]).engines.items()}
    assert found.weights == sum(cost_of(file, 1).weights for file in files.values())
    assert found.stages["step that updates"]["fp16"] > found.stages["step of one model"]["fp16"]
