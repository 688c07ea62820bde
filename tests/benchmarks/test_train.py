import math

import numpy as np
import pytest
import torch

from benchmarks.tabletop import data, models, train
from benchmarks.tabletop.scenes import sample_scene


def make_batch(count: int) -> data.Batch:
    """What `encode_scenes` gives, with random latents."""
    scenes = [sample_scene(np.random.default_rng(i)) for i in range(count)]
    tokenizer = models.make_tokenizer()
    boxes, phrases = torch.zeros(count, 3, 4), torch.zeros(count, 3, models.CONTEXT, dtype=torch.long)
    for i, scene in enumerate(scenes):
        for j, thing in enumerate(scene.things):
            boxes[i, j], phrases[i, j] = torch.tensor(thing.box), torch.tensor(tokenizer.encode(thing.phrase).ids)
    ids = torch.tensor([tokenizer.encode(scene.caption).ids for scene in scenes])
    latents = torch.randn(count, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    return {"latents": latents, "ids": ids, "boxes": boxes, "phrases": phrases}


def test_misplaced_attention_by_counting_pixels():
    boxes = torch.tensor([[[0.0, 0.0, 0.5, 0.5], [0.6, 0.3, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]])
    attention = torch.rand(1, 64 + 30, 64 + 30, generator=torch.Generator().manual_seed(0)).softmax(-1)
    total = 0.0
    for pixel in range(64):
        x, y = (pixel % 8 + 0.5) / 8, (pixel // 8 + 0.5) / 8
        over = [j for j, (x0, y0, x1, y1) in enumerate(boxes[0].tolist()) if x0 < x < x1 and y0 < y < y1]
        seen = attention[0, pixel, 64 + over[0]] if over else 1 - attention[0, pixel, 64:67].sum()
        total -= math.log(seen.item() + 1e-4)
    assert train._misplaced(attention, boxes).item() == pytest.approx(total / 64, rel=1e-5)


def test_empty_captions_are_the_tokenizer_s():
    tokenizer = models.make_tokenizer()
    ids = torch.tensor([tokenizer.encode(text).ids for text in ("a red ball", "two green cones")])
    dropped = data.drop_captions(ids, np.array([False, True]))
    assert dropped.tolist() == [tokenizer.encode("a red ball").ids, tokenizer.encode("").ids]


def test_a_saved_pair_is_what_training_goes_on_from(tmp_path):
    """In half precision, and with nothing of this machine in its files."""
    torch.manual_seed(0)
    denoiser, vae = train.Denoiser(), models.make_vae()
    vae.register_to_config(scaling_factor=0.7)
    for folder in (tmp_path / "first", tmp_path / "second"):
        train.save_pair(folder, vae, denoiser.text_encoder, denoiser.unet, denoiser.unet)
        spatial, text_to_image = (train.load_denoiser(folder, model) for model in ("spatial", "text_to_image"))
        vae = train.load_vae(folder)
    for name, weight in text_to_image.unet.state_dict().items():
        torch.testing.assert_close(weight, denoiser.unet.state_dict()[name].half().float(), rtol=0, atol=0)
    assert len(spatial.unet.state_dict()) == len(denoiser.unet.state_dict())
    assert vae.config.scaling_factor == 0.7 and vae.dtype == torch.float32
    assert not any(p.requires_grad for p in spatial.text_encoder.parameters())
    for path in tmp_path.rglob("*.json"):
        assert str(tmp_path) not in path.read_text()


def test_both_tasks_reach_the_weights_that_they_train(monkeypatch):
    """Realistic steps leave GLIGEN's layers alone; the placer's steps reach them, and not the frozen text model."""
    for module in (data, train):
        monkeypatch.setattr(module, "BATCH", 2)
    torch.manual_seed(0)
    denoiser, batch = train.Denoiser(), make_batch(4)
    train._realistic_loss(denoiser, batch)(0).backward()
    gates = [p for name, p in denoiser.unet.named_parameters() if "fuser" in name or "position_net" in name]
    assert gates and all(p.grad is None for p in gates)
    assert denoiser.unet.conv_in.weight.grad.abs().sum() > 0
    denoiser.zero_grad(set_to_none=True)
    denoiser.text_encoder.requires_grad_(False)
    placer = train.Placer(denoiser)
    placer.loss(batch, 0).backward()
    assert all(p.grad is not None for p in [*gates, *placer.probes.parameters()])
    assert all(p.grad is None for p in denoiser.text_encoder.parameters())
