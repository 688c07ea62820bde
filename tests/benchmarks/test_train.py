import copy
from dataclasses import replace

import numpy as np
import torch

from benchmarks.tabletop import data, models, train
from benchmarks.tabletop.scenes import sample_scene


def make_batch(count: int) -> data.Batch:
    """What `encode_scenes` gives, with random latents."""
    latents = torch.randn(count, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    return data.describe([sample_scene(np.random.default_rng(i)) for i in range(count)]) | {"latents": latents}


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
    denoiser.loss(train.realistic_batch(denoiser, batch, 0), 0).backward()
    gates = [p for name, p in denoiser.unet.named_parameters() if "fuser" in name or "position_net" in name]
    assert gates and all(p.grad is None for p in gates)
    assert denoiser.unet.conv_in.weight.grad.abs().sum() > 0
    denoiser.zero_grad(set_to_none=True)
    denoiser.text_encoder.requires_grad_(False)
    placer = train.Placer(denoiser)
    placer.loss(batch, 0).backward()
    assert all(p.grad is not None for p in [*gates, *placer.probes.parameters()])
    assert all(p.grad is None for p in denoiser.text_encoder.parameters())


def test_token_loss_is_for_captions_and_for_visible_objects(monkeypatch):
    """A sample without a caption, or noised beyond `visible`, costs its velocity's error alone."""
    for module in (data, train):
        monkeypatch.setattr(module, "BATCH", 2)
    torch.manual_seed(0)
    denoiser, batch = train.Denoiser(), make_batch(4)
    sample = train.realistic_batch(denoiser, batch, 0)
    noisy, t, velocity = train.noised(sample.latents, 0)
    error = torch.nn.functional.mse_loss(denoiser.unet(noisy, t, sample.text).sample, velocity)
    torch.testing.assert_close(denoiser.loss(sample, 0, visible=0), error)
    assert denoiser.loss(sample, 0, visible=1000) > error + 0.1 * train.TOKEN_WEIGHT
    silent = replace(sample, owners=torch.zeros_like(sample.owners))
    torch.testing.assert_close(denoiser.loss(silent, 0, visible=1000), error)


def test_a_copied_denoiser_records_its_own_maps():
    """The spatial model starts as a copy; its recorders must see its layers and not the original's."""
    torch.manual_seed(0)
    original = train.Denoiser()
    copied = copy.deepcopy(original)
    with torch.no_grad():
        copied.unet(torch.randn(1, 4, 16, 16), 5, torch.randn(1, 16, 64))
    assert [recorder.take().shape for recorder in copied.maps] == [(1, 256, 16)] * len(copied.maps)
    assert len(copied.maps) == 3
