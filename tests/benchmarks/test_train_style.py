from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

from benchmarks.tabletop import data, train_style
from export.checkpoints.folders import ROOT
from export.checkpoints.lora import fuse_loras
from export.pairs import Lora, Pair
from export.spatial import find_pair

PAIR = ROOT / "engines" / "tabletop"
SHIPPED = PAIR / "lora-papercut.safetensors"


def tabletop_with(lora: Path) -> Pair:
    return replace(find_pair("tabletop"), loras=(Lora(str(lora), 1.0),))


@torch.no_grad()
def velocity(unet: UNet2DConditionModel) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    latents, text = (torch.randn(2, *shape, generator=generator) for shape in ((4, 16, 16), (16, 64)))
    return unet(latents, 500, text).sample


def test_the_command_saves_what_the_exporter_fuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (data, train_style):
        monkeypatch.setattr(module, "BATCH", 2)
    monkeypatch.setattr(data, "SCENES", 6)
    train_style.main(PAIR, tmp_path / "style.safetensors", tmp_path / "work", steps=3)
    weights = load_file(tmp_path / "style.safetensors")
    assert weights and all(name.startswith("unet.") and weight.any() for name, weight in weights.items())
    fused = fuse_loras(tabletop_with(tmp_path / "style.safetensors"), tmp_path / "fused")
    plain, styled = (
        velocity(UNet2DConditionModel.from_pretrained(Path(folder) / "unet", torch_dtype=torch.float32))
        for folder in (PAIR / "text_to_image", fused.text_to_image)
    )
    assert 1e-4 < (styled - plain).norm() / plain.norm() < 0.5


def test_the_shipped_style_is_small_and_fuses(tmp_path: Path) -> None:
    assert SHIPPED.stat().st_size < 2e6
    fused = fuse_loras(tabletop_with(SHIPPED), tmp_path)
    changed, before = (
        load_file(Path(folder) / "unet" / "diffusion_pytorch_model.safetensors")
        for folder in (fused.text_to_image, PAIR / "text_to_image")
    )
    assert changed.keys() == before.keys()
    assert any(not torch.equal(changed[name], before[name]) for name in changed)
