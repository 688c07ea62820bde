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

from export.build import Options, _about_distillation, build
from export.checkpoints.lora import fuse_loras
from export.checkpoints.lora_options import parse_loras
from export.checkpoints.recipes import RECIPES, recipe_of
from export.pairs import Lora, Pair
from export.tables import bundle_table
from runtime import RealCompoError
from runtime.presets import preset_knobs
from runtime.request import every_knob
from runtime.sampling import SAMPLERS

OFF = {"guidance_scale": 1.0}
TRAILING = {"spacing": "trailing"}


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
        ("engines/tabletop/lora-papercut.safetensors", None),
        ("steelcmx.safetensors", None),
        ("turbocharged-cars.safetensors", None),
    ],
)
def test_known_families(file: str, knobs: dict[str, Any] | None) -> None:
    found = recipe_of(["style.safetensors", file])
    assert (found and found.knobs) == knobs


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


def test_a_distilled_bundle_says_how_it_is_drawn(pair: Pair, lora: Path, tmp_path: Path) -> None:
    told: list[str] = []
    manifest = build(replace(pair, loras=(Lora(str(lora), 1.0),)), tmp_path / "out", Options(), tell=told.append)
    assert any("looks like a distillation (TCD): generate draws with sampler=tcd, steps=4" in line for line in told)
    assert any(line.endswith(f"--lora {lora}:1@both") for line in told)
    each = _about_distillation(replace(pair, loras=(Lora(str(lora), 1.0), Lora(str(lora), 1.0, "spatial"))))
    assert not any("one model alone" in line for line in each)
    assert manifest.recipe and manifest.recipe.file == str(lora)
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["recipe"]["name"] == "TCD"
    cells = [str(cell) for column in bundle_table(manifest).columns for cell in column.cells]
    assert "TCD: drawn by default with sampler=tcd, steps=4, guidance_scale=1.0" in cells
    assert preset_knobs(None, manifest, {"steps": 2}) == {"sampler": "tcd", "steps": 2, "guidance_scale": 1.0}
    assert preset_knobs("fast", manifest, {})["sampler"] == "tcd"
