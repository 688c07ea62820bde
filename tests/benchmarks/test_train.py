import math

import numpy as np
import pytest
import torch

from benchmarks.tabletop import models, train
from benchmarks.tabletop.scenes import sample_scene


def make_batch(count: int) -> train.Batch:
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
    dropped = train._drop(ids, np.array([False, True]))
    assert dropped.tolist() == [tokenizer.encode("a red ball").ids, tokenizer.encode("").ids]


def test_both_tasks_reach_the_weights_that_they_train(monkeypatch):
    """Realistic steps leave GLIGEN's layers alone; the placer's steps reach them, and not the frozen text model."""
    monkeypatch.setattr(train, "BATCH", 2)
    torch.manual_seed(0)
    denoiser, data = train.Denoiser(), make_batch(4)
    train._realistic_loss(denoiser, data)(0).backward()
    gates = [p for name, p in denoiser.unet.named_parameters() if "fuser" in name or "position_net" in name]
    assert gates and all(p.grad is None for p in gates)
    assert denoiser.unet.conv_in.weight.grad.abs().sum() > 0
    denoiser.zero_grad(set_to_none=True)
    denoiser.text_encoder.requires_grad_(False)
    placer = train.Placer(denoiser)
    placer.loss(data, 0).backward()
    assert all(p.grad is not None for p in [*gates, *placer.probes.parameters()])
    assert all(p.grad is None for p in denoiser.text_encoder.parameters())
