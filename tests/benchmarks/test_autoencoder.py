import numpy as np
import pytest
import torch

from benchmarks.tabletop import autoencoder, models
from benchmarks.tabletop.data import SCENES, render_index, scene_of, vae_input
from benchmarks.tabletop.scenes import SIDE


def rendered(count: int) -> np.ndarray:
    return np.stack([render_index(SCENES + row, autoencoder.style_of(SCENES + row)) for row in range(count)])


def test_opponent_colors_by_hand():
    red, yellow, gray = ([1.0, -1.0, -1.0], [1.0, 1.0, -1.0], [0.3, 0.3, 0.3])
    pixels = torch.tensor([red, yellow, gray]).T[None, :, :, None]
    assert autoencoder.opponent(pixels)[0, :, :, 0].T.tolist() == [[1.0, -0.5], [0.0, -1.0], [0.0, pytest.approx(0)]]


def test_grain_by_hand():
    """A checkerboard of 1 and -1 is 8/9 away from its 3x3 means; an even ramp is nowhere."""
    board = 1.0 - 2 * (torch.arange(32)[:, None] + torch.arange(32)).remainder(2)
    assert autoencoder.grain(board.expand(1, 3, 32, 32))[0, 0, 1, 1].item() == pytest.approx(8 / 9, rel=1e-4)
    ramp = torch.linspace(-1, 1, 32).expand(1, 3, 32, 32)
    assert autoencoder.grain(ramp)[0, 0, 1:3, 1:3].max().item() == pytest.approx(1e-3, rel=1e-2)


def test_a_picture_loses_nothing_to_itself():
    x = vae_input(torch.from_numpy(rendered(3)))
    assert autoencoder.picture_loss(x, x) == 0
    for worse in (x.mean((2, 3), keepdim=True).expand_as(x), x.flip(1), x + 0.02 * torch.randn_like(x)):
        assert autoencoder.picture_loss(worse, x) > 0.01


def test_anchors_are_mean_opponent_colors():
    x = torch.zeros(1, 3, 16, 16)
    x[:, 0, :8, :8], x[:, 1:, :8, :8] = 1.0, -1.0  # a red patch
    latents = torch.zeros(1, 4, 2, 2)
    latents[0, :2, 0, 0] = autoencoder.ANCHOR_SCALE * torch.tensor([1.0, -0.5])
    assert autoencoder.anchor_loss(latents, x) == 0
    assert autoencoder.anchor_loss(latents.flip(3), x) > 1


def test_batches_are_their_step_s_and_show_objects():
    pixels = rendered(12)
    for step, shape in ((0, (8, 3, 128, 128)), (1, (24, 3, 64, 64))):
        first, again = (autoencoder.batch_of(pixels, step) for _ in range(2))
        assert first.shape == shape and torch.equal(first, again)
    chroma = autoencoder.opponent(autoencoder.batch_of(pixels, 1)).abs().amax((1, 2, 3))
    assert chroma.min() > 0.2  # none shows ground alone


def test_pictures_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(autoencoder, "PICTURES", 7)
    first, again = autoencoder.pictures(tmp_path), autoencoder.pictures(tmp_path)
    np.testing.assert_array_equal(first, rendered(7))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (7, SIDE, SIDE, 3) and len(scene_of(SCENES).things) > 0


def test_standardised_latents_decode_to_the_same_pictures():
    torch.manual_seed(0)
    vae, x = models.make_vae().eval(), vae_input(torch.from_numpy(rendered(8)))
    with torch.no_grad():
        vae.quant_conv.bias += torch.randn(8)
        before = vae.encode(x).latent_dist
        pictures = vae.decode(before.mean).sample
        autoencoder.standardise(vae, x)
        after = vae.encode(x).latent_dist
        torch.testing.assert_close(vae.decode(after.mean).sample, pictures, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(after.mean.mean((0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(after.mean.std((0, 2, 3)), torch.ones(4), atol=1e-3, rtol=0)
    scale = before.mean.std((0, 2, 3))[:, None, None]
    torch.testing.assert_close(after.std, before.std / scale, atol=1e-4, rtol=1e-3)
