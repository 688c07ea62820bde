"""Tabletop's distillation: what a step must learn, from whom, and that the exporter fuses what is saved."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file

from benchmarks.tabletop import models, train_distilled
from benchmarks.tabletop.train_distilled import STEPS, leading
from export.checkpoints.folders import ROOT
from export.checkpoints.lora import fuse_loras
from export.pairs import Lora
from export.spatial import find_pair
from runtime.words import MODELS

PAIR = ROOT / "engines" / "tabletop"


def test_the_velocity_leads_there() -> None:
    """diffusers' own DDIM step with it, at each step."""
    before, after = torch.randn(2, STEPS, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    timesteps, velocities = leading(before, after, torch.arange(STEPS))
    scheduler = DDIMScheduler.from_config(models.make_scheduler().config, timestep_spacing="trailing")
    scheduler.set_timesteps(STEPS)
    assert timesteps.tolist() == scheduler.timesteps.tolist()
    for k, t in enumerate(timesteps):
        reached = scheduler.step(velocities[k : k + 1], t, before[k : k + 1]).prev_sample
        torch.testing.assert_close(reached, after[k : k + 1], atol=2e-5, rtol=1e-4)


def test_the_command_saves_what_the_exporter_fuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both models learn, each from the steps that it drew, and into itself alone."""
    monkeypatch.setattr(train_distilled, "BATCH", 2)
    monkeypatch.setattr(train_distilled, "TAUGHT", 4)
    train_distilled.main(PAIR, tmp_path, tmp_path / "work", steps=2)
    chunks = [load_file(file) for file in sorted((tmp_path / "work").glob("taught-*.safetensors"))]
    switches = [int(chunk["handed_over"]) for chunk in chunks]
    assert len(set(switches)) > 1 and all(chunk["latents"].isfinite().all() for chunk in chunks)
    taught = {model: [s for c in chunks for s in train_distilled._steps_of(c, model)] for model in MODELS}
    assert (len(taught["spatial"]), len(taught["text_to_image"])) == (sum(switches), 4 * STEPS - sum(switches))
    files = {model: tmp_path / f"lora-tabletop-8steps-{model}.safetensors" for model in MODELS}
    fused = fuse_loras(
        replace(find_pair("tabletop"), loras=tuple(Lora(str(file), 1.0, model) for model, file in files.items())),
        tmp_path / "fused",
    )
    for folder, plain in ((fused.text_to_image, PAIR / "text_to_image"), (fused.spatial, PAIR / "spatial")):
        new, old = (load_file(Path(one) / "unet" / "diffusion_pytorch_model.safetensors") for one in (folder, plain))
        changed = {name for name in old if not torch.equal(new[name], old[name])}
        assert changed and not any("attn2.to_q" in name or "attn2.to_k" in name for name in changed)
        assert any("fuser" in name for name in changed) == (plain.name == "spatial")
        UNet2DConditionModel.from_pretrained(Path(folder) / "unet")
