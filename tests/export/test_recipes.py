"""Distilled models told by their names, and LoRAs that go into one model or both."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from export.build import Options, _about_distillation, _distillable, build
from export.checkpoints.lora import fuse_loras
from export.checkpoints.lora_options import parse_loras
from export.checkpoints.recipes import RECIPES, recipe_of
from export.pairs import Lora, Pair
from export.provenance import located
from export.tables import bundle_table
from runtime import RealCompoError
from runtime.presets import preset_knobs
from runtime.request import every_knob
from runtime.sampling import SAMPLERS
from tests.export.stubs import can_exports

OFF = {"guidance_scale": 1.0}
TRAILING = {"spacing": "trailing"}
LCM = {"sampler": "lcm", "steps": 4, **OFF}
LIGHTNING = TURBO = {"sampler": "euler", **TRAILING, "steps": 4, **OFF}
CACHE, SNAPSHOT = "/home/me/.cache/huggingface/hub", "snapshots/0123456789012345678901234567890123456789"


@pytest.mark.parametrize(
    ("file", "knobs"),
    [
        ("lcm-lora-sdv1-5/pytorch_lora_weights.safetensors", {"sampler": "lcm", "steps": 4, **OFF}),
        ("TCD-SDXL-LoRA/pytorch_lora_weights.safetensors", {"sampler": "tcd", "steps": 4, **OFF}),
        ("Hyper-SD15-8steps-lora.safetensors", {"sampler": "ddim", **TRAILING, "steps": 8, **OFF}),
        (
            "Hyper-SD15-8steps-CFG-lora.safetensors",
            {"sampler": "ddim", **TRAILING, "steps": 8, "guidance_scale": 5.0},
        ),
        ("Hyper-SDXL-1step-lora.safetensors", {"sampler": "tcd", "steps": 1, **OFF}),
        ("Hyper-SDXL-2steps-lora.safetensors", {"sampler": "ddim", **TRAILING, "steps": 2, **OFF}),
        (
            "Hyper-SDXL-12steps-CFG-lora.safetensors",
            {"sampler": "ddim", **TRAILING, "steps": 12, "guidance_scale": 5.0},
        ),
        ("sdxl_lightning_4step_lora.safetensors", {"sampler": "euler", **TRAILING, "steps": 4, **OFF}),
        ("sdxl_lightning_8step_lora.safetensors", {"sampler": "euler", **TRAILING, "steps": 8, **OFF}),
        ("sd_xl_turbo_lora_v1.safetensors", {"sampler": "euler", **TRAILING, "steps": 4, **OFF}),
        ("stabilityai/sd-turbo", {"sampler": "euler", **TRAILING, "steps": 4, **OFF}),
        (
            "engines/tabletop/lora-tabletop-8steps-spatial.safetensors",
            {"sampler": "ddim", **TRAILING, "steps": 8, "guidance_scale": 2.5},
        ),
        ("hyper_sd15_8step.safetensors", {"sampler": "ddim", **TRAILING, "steps": 8, **OFF}),
        ("SDXLTurbo.safetensors", TURBO),
        ("sd_xl_turbo_1.0_fp16.safetensors", TURBO),
        ("stabilityai/sdxl-turbo", TURBO),
        ("stabilityai/sdxl-turbo@0123abc:unet", TURBO),
        ("/models/sd-turbo/", TURBO),
        ("LCM_LoRA_Weights_SD15.safetensors", LCM),
        ("latent-consistency/lcm-lora-sdxl", LCM),
        ("latent-consistency/lcm-lora-ssd-1b@refs/pr/1", LCM),
        ("latent-consistency/lcm-lora@refs/pr/1", LCM),
        ("h1t/TCD-SD21-base-LoRA:pytorch_lora_weights.safetensors", {"sampler": "tcd", "steps": 4, **OFF}),
        ("ByteDance/SDXL-Lightning:sdxl_lightning_8step_unet.safetensors", LIGHTNING | {"steps": 8}),
        ("/models/SDXL_Lightning_2step_unet/diffusion_pytorch_model.safetensors", LIGHTNING | {"steps": 2}),
        ("/models/SDXL_Lightning_2step/unet/diffusion_pytorch_model.fp16.safetensors", LIGHTNING | {"steps": 2}),
        (f"{CACHE}/models--latent-consistency--lcm-lora-sdv1-5/{SNAPSHOT}/pytorch_lora_weights.safetensors", LCM),
        (f"{CACHE}/models--ByteDance--SDXL-Lightning/{SNAPSHOT}/loras/8-step.safetensors", LIGHTNING | {"steps": 8}),
        (f"{CACHE}/models--ByteDance--Hyper-SD/{SNAPSHOT}/1step.safetensors", {"sampler": "tcd", "steps": 1, **OFF}),
    ],
)
def test_known_families(file: str, knobs: dict[str, Any]) -> None:
    found = recipe_of(["style.safetensors", file])
    assert found and (found.file, found.knobs) == (file, knobs)


@pytest.mark.parametrize(
    "file",
    [
        "engines/tabletop/lora-papercut.safetensors",
        "my-tabletop-rpg-style_3000steps.safetensors",
        "lora-tabletop-3000steps-style.safetensors",
        "lightning_storm_style.safetensors",
        "sdxl_lightning_storm_style.safetensors",
        "lightning_sdxl_v1.safetensors",
        "lightning-mcqueen-2000-steps.safetensors",
        "turbo car style.safetensors",
        "turbocharged-cars.safetensors",
        "turbo-lora.safetensors",
        "porsche-turbo-v2-step-500.safetensors",
        "steelcmx.safetensors",
        "lcm-99step.safetensors",
        "lcm-2500steps.safetensors",
        "tcd.safetensors",
        "hyper-realism-sd15.safetensors",
        "Hyper-SD3-4steps-CFG-lora.safetensors",
        "lcm-lora-sdv1-5/watercolour.safetensors",  # something beside it
        "/loras/SDXL Turbo/watercolour.safetensors",  # folders by base models
        "/lcm-lora-sdxl/tests/pytorch_lora_weights.safetensors",
        f"{CACHE}/models--someone--sdxl-turbo-loras/{SNAPSHOT}/watercolour.safetensors",
        f"/lcm-lora-sdxl/{CACHE}/models--someone--watercolour/{SNAPSHOT}/pytorch_lora_weights.safetensors",
        "someone/watercolour@lcm-lora-sdxl",
        "pytorch_lora_weights.safetensors",
        "",
    ],
)
def test_styles_are_no_distillations(file: str) -> None:
    assert recipe_of([file]) is None


def test_steps_are_those_that_the_sampler_takes() -> None:
    """With the model's own scheduler, whose LCM may know fewer than 50."""
    six, two = ({"original_inference_steps": steps} for steps in (6, 2))
    files = ["lcm-lora-sdxl-8steps.safetensors"]
    steps = [recipe and recipe.knobs["steps"] for recipe in (recipe_of(files), recipe_of(files, six))]
    assert steps == [8, 4] and recipe_of(files, two) is None
    assert recipe_of([*files, "sdxl_lightning_4step_lora.safetensors"], two)


def test_long_names_are_told_in_no_time() -> None:
    """A pattern that tries all ways to split one would never come back."""
    for names in ("sd-1-5-" * 36, "lcm-" * 60, "hyper-sd-" * 28, "sdxl-turbo-1-0-" * 16):
        assert recipe_of([f"{names}x.safetensors"]) is None


def test_a_link_is_told_by_its_own_name(pair: Pair, lora: Path, tmp_path: Path) -> None:
    """As those of a hub's cache, which point to blobs without names."""
    link, plain = tmp_path / "Hyper-SD15-8steps-lora.safetensors", tmp_path / "plain.safetensors"
    link.symlink_to(lora)
    plain.symlink_to(lora)
    told = [
        recipe_of([one.file]) for one in located(replace(pair, loras=(Lora(str(link), 1), Lora(str(plain), 1)))).loras
    ]
    assert told[0] and (told[0].name, told[0].file) == ("Hyper-SD", str(link)) and told[1] is None


@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_a_lora_that_does_not_distil(pair: Pair, lora: Path, scale: float) -> None:
    off = replace(pair, loras=(Lora(str(lora), scale, "both"),))
    assert not list(_about_distillation(off, {}))
    assert recipe_of(_distillable(off)) is None
    both = replace(off, loras=(*off.loras, Lora("lcm-lora-sdxl.safetensors", 0.5)))
    recipe = recipe_of(_distillable(both))
    assert recipe and recipe.name == "LCM"


def test_rows_are_of_options_that_there_are() -> None:
    assert all(set(row.knobs(None)) <= set(every_knob()) and row.sampler in SAMPLERS for row in RECIPES)


@pytest.fixture(scope="module")
def lora(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the UNet alone, in PEFT's names."""
    unet = UNet2DConditionModel.from_pretrained(Path(pair.text_to_image) / "unet")
    torch.manual_seed(0)
    unet.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q"], init_lora_weights="gaussian"))
    for name, weight in unet.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    path = tmp_path_factory.mktemp("lora") / "tcd-lora.safetensors"
    save_file({f"unet.{name}": tensor for name, tensor in get_peft_model_state_dict(unet).items()}, path)
    return path


def unet(folder: str) -> dict[str, torch.Tensor]:
    return load_file(next(Path(folder, "unet").glob("*.safetensors")))


def test_a_lora_goes_where_it_is_sent(pair: Pair, lora: Path, tmp_path: Path) -> None:
    """Both UNets move by the same, each from its own weights."""
    plain = unet(pair.text_to_image), unet(pair.spatial)
    fused = {
        into: fuse_loras(replace(pair, loras=(Lora(str(lora), 0.5, into),)), tmp_path)  # type: ignore[arg-type]
        for into in ("text_to_image", "spatial", "both")
    }
    assert fused["text_to_image"].spatial == pair.spatial and fused["spatial"].text_to_image == pair.text_to_image
    assert fused["both"].text_to_image == fused["text_to_image"].text_to_image
    assert fused["both"].spatial == fused["spatial"].spatial
    moved = [
        {name: new[name].float() - old[name].float() for name in old if not torch.equal(new[name], old[name])}
        for new, old in zip((unet(fused["both"].text_to_image), unet(fused["both"].spatial)), plain, strict=True)
    ]
    assert moved[0] and moved[0].keys() == moved[1].keys() and all("to_q" in name for name in moved[0])
    for name, change in moved[0].items():
        torch.testing.assert_close(moved[1][name], change, rtol=1e-2, atol=2e-3)  # the tiny spatial model is in fp16


def test_text_encoders_are_the_text_to_image_models(pair: Pair, lora: Path, tmp_path: Path) -> None:
    weights = load_file(lora)
    layer = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
    down, up = torch.ones(2, 16), torch.ones(16, 2)
    save_file(weights | {f"{layer}.lora_A.weight": down, f"{layer}.lora_B.weight": up}, tmp_path / "text.safetensors")
    fuse_loras(replace(pair, loras=(Lora(str(tmp_path / "text.safetensors"), 1.0, "both"),)), tmp_path / "both")
    with pytest.raises(RealCompoError, match=r"it changes a text encoder too, .*: write @both"):
        fuse_loras(replace(pair, loras=(Lora(str(tmp_path / "text.safetensors"), 1.0, "spatial"),)), tmp_path / "own")


def test_a_pair_of_one_unet(controlled_pair: Pair, lora: Path, tmp_path: Path) -> None:
    both = fuse_loras(replace(controlled_pair, loras=(Lora(str(lora), 1.0, "both"),)), tmp_path)
    assert both.spatial == both.text_to_image
    with pytest.raises(RealCompoError, match="@spatial: both models have one UNet in this pair; leave @spatial out"):
        fuse_loras(replace(controlled_pair, loras=(Lora(str(lora), 1.0, "spatial"),)), tmp_path)


def test_how_the_command_line_says_it(lora: Path) -> None:
    assert parse_loras([f"{lora}:0.5@both", f"{lora}@spatial", str(lora)]) == (
        Lora(str(lora), 0.5, "both"),
        Lora(str(lora), 1.0, "spatial"),
        Lora(str(lora), 1.0, "text_to_image"),
    )
    with pytest.raises(RealCompoError, match="'text' is no model; write @text_to_image, @spatial, @both"):
        parse_loras([f"{lora}:0.5@text"])


def test_a_distilled_bundle_says_how_it_is_drawn(
    pair: Pair, bundle: Path, lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    can_exports(monkeypatch, bundle)
    told: list[str] = []
    manifest = build(replace(pair, loras=(Lora(str(lora), 1.0),)), tmp_path / "out", Options(), tell=told.append)
    assert any("looks like a distillation (TCD): generate draws with sampler=tcd, steps=4" in line for line in told)
    assert any(line.endswith(f"--lora {lora}:1@both") for line in told)
    each = _about_distillation(replace(pair, loras=(Lora(str(lora), 1.0), Lora(str(lora), 1.0, "spatial"))), {})
    assert not any("one model alone" in line for line in each)
    assert manifest.recipe and manifest.recipe.file == str(lora)
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["recipe"]["name"] == "TCD"
    cells = [str(cell) for column in bundle_table(manifest).columns for cell in column.cells]
    assert "TCD: drawn by default with sampler=tcd, steps=4, guidance_scale=1.0" in cells
    assert preset_knobs(None, manifest, {"steps": 2}) == {"sampler": "tcd", "steps": 2, "guidance_scale": 1.0}
    assert preset_knobs("fast", manifest, {})["sampler"] == "tcd"
