"""The balancer against loops over pixels, finite differences and properties."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, pad

from runtime.denoising.balancer import (
    SURROGATE_UNIT,
    Regions,
    attention_loss,
    exact_gradient,
    fuse,
    fusing_weights,
    mixed_attention,
    step_size,
    surrogate_gradient,
)

SIZE, TOKENS = 4, 6
PIXELS = SIZE * SIZE


def random_maps(seed: int, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, PIXELS, TOKENS, generator=generator, dtype=torch.float64).softmax(-1)


def random_regions(padding: int = 0) -> Regions:
    """Two images of two regions, and padding whose masks and tokens are empty."""
    masks = torch.rand(2, 2, PIXELS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    tokens = torch.zeros(2, 2, TOKENS, dtype=torch.float64)
    tokens[:, 0, 1:3] = 1
    tokens[:, 1, 4] = 1
    weights = torch.ones(2, 2, dtype=torch.float64)
    return Regions(pad(masks, (0, 0, 0, padding)), pad(tokens, (0, 0, 0, padding)), pad(weights, (0, padding)))


def loss_by_loops(maps: Tensor, regions: Regions) -> list[float]:
    losses = []
    for b in range(len(maps)):
        loss = 0.0
        for r in range(2):
            tokens = [k for k in range(TOKENS) if regions.tokens[b, r, k]]
            attention = [sum(maps[b, p, k].item() for k in tokens) / len(tokens) for p in range(PIXELS)]
            inside = sum(regions.masks[b, r, p].item() * attention[p] for p in range(PIXELS))
            loss += 1 - inside / sum(attention)
        losses.append(loss)
    return losses


def test_loss_equals_loops() -> None:
    maps, regions = random_maps(2), random_regions()
    assert attention_loss(maps, *regions).loss.tolist() == pytest.approx(loss_by_loops(maps, regions))


def test_padding_changes_nothing_and_keeps_gradients_finite() -> None:
    maps = random_maps(2).requires_grad_()
    losses = [attention_loss(maps, *random_regions(padding)).loss for padding in (0, 3)]
    plain, padded = (torch.autograd.grad(loss.sum(), maps)[0] for loss in losses)
    torch.testing.assert_close(plain, padded)


def test_no_regions_cost_nothing() -> None:
    regions = Regions(torch.zeros(2, 0, PIXELS), torch.zeros(2, 0, TOKENS), torch.zeros(2, 0))
    assert attention_loss(random_maps(2).float(), *regions).loss.tolist() == [0, 0]


def test_loss_is_0_inside_and_1_outside() -> None:
    maps = torch.zeros(1, PIXELS, TOKENS)
    maps[0, 3, 2] = 1
    tokens, masks = torch.zeros(1, 2, TOKENS), torch.zeros(1, 2, PIXELS)
    tokens[0, :, 2] = 1
    masks[0, 0, 3] = 1
    masks[0, 1, 4] = 1
    losses = [
        attention_loss(maps, masks, tokens, torch.tensor([[float(r == 0), float(r == 1)]])).loss for r in range(2)
    ]
    assert [loss.item() for loss in losses] == [0, 1]


@given(st.integers(0, 1000), st.floats(0, 50))
@settings(max_examples=30, deadline=None)
def test_fused_noise_lies_between_both(seed: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    text, spatial = torch.randn(2, 3, 4, 5, 5, generator=generator)
    coefficients = spread * torch.randn(3, 2, 5, 5, generator=generator)
    weights = fusing_weights(coefficients)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(3, 5, 5))
    fused = fuse(text, spatial, coefficients)
    assert (fused >= torch.minimum(text, spatial) - 1e-5).all()
    assert (fused <= torch.maximum(text, spatial) + 1e-5).all()


def test_fuse_weighs_text_first() -> None:
    coefficients = torch.tensor([0.3, 0.7]).log().reshape(1, 2, 1, 1)
    assert fuse(torch.ones(1, 4, 1, 1), torch.zeros(1, 4, 1, 1), coefficients).flatten()[0] == pytest.approx(0.3)


@pytest.mark.parametrize("latent_size", [SIZE, 2 * SIZE])
def test_surrogate_gradient_equals_finite_differences(latent_size: int) -> None:
    generator = torch.Generator().manual_seed(3)
    coefficients = torch.randn(2, 2, latent_size, latent_size, generator=generator, dtype=torch.float64)
    rest = random_maps(4), random_maps(5), random_regions(padding=1), (SIZE, SIZE)
    gradient = surrogate_gradient(coefficients, *rest)
    for index in [(0, 0, 1, 2), (1, 1, 3, 0), (0, 1, 2, 2)]:
        nudge = torch.zeros_like(coefficients)
        nudge[index] = 1e-5
        above, below = (mixed_attention(coefficients + sign * nudge, *rest).loss.sum() for sign in (1, -1))
        wanted = (above - below).item() / 2e-5 * 64**2 * SURROGATE_UNIT
        assert gradient[index].item() == pytest.approx(wanted, rel=1e-5)


def test_descent_lowers_the_mixed_loss() -> None:
    coefficients = torch.zeros(2, 2, SIZE, SIZE, dtype=torch.float64)
    rest = random_maps(4), random_maps(5), random_regions(), (SIZE, SIZE)
    before = mixed_attention(coefficients, *rest).loss
    for i in range(10):
        coefficients = coefficients - step_size(i, 10, 1e6, PIXELS) * surrogate_gradient(coefficients, *rest)
    assert (mixed_attention(coefficients, *rest).loss < before).all()


def enlarged(tensor: Tensor, times: int) -> Tensor:
    """Each pixel (..,h,w) as a block of equal ones."""
    return tensor.repeat_interleave(times, -2).repeat_interleave(times, -1)


def surrogate_step(coefficients: Tensor) -> Tensor:
    gradient = surrogate_gradient(coefficients, random_maps(4), random_maps(5), random_regions(), (SIZE, SIZE))
    return step_size(3, 10, 1e6, coefficients[0, 0].numel()) * gradient


def exact_step(coefficients: Tensor) -> Tensor:
    """Of a scene whose noise is constant within blocks, as is what a model sees of it: a mean over each map cell."""
    generator, times = torch.Generator().manual_seed(6), coefficients.shape[-1] // SIZE
    latents, *noises = (
        enlarged(torch.randn(2, 4, SIZE, SIZE, generator=generator, dtype=torch.float64), times) for _ in range(3)
    )
    keys = torch.randn(4, TOKENS, generator=generator, dtype=torch.float64)
    fused = fuse(*noises, coefficients).requires_grad_()
    cells = adaptive_avg_pool2d(latents + 0.1 * fused, SIZE).flatten(2).transpose(1, 2)
    loss = attention_loss((cells @ keys).softmax(-1), *random_regions()).loss.sum()
    (cotangent,) = torch.autograd.grad(loss, fused)
    return step_size(3, 10, 1e6, coefficients[0, 0].numel()) * exact_gradient(coefficients, *noises, cotangent)


@pytest.mark.parametrize("step", [surrogate_step, exact_step])
@pytest.mark.parametrize("times", [2, 4])
def test_a_scale_moves_coefficients_alike_at_every_latent_size(step: Callable[[Tensor], Tensor], times: int) -> None:
    coefficients = torch.randn(2, 2, SIZE, SIZE, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    small, large = step(coefficients), step(enlarged(coefficients, times))
    assert small.abs().max() > 1e-3
    torch.testing.assert_close(enlarged(small, times), large)


def test_surrogate_gradient_vanishes_where_both_models_agree() -> None:
    maps = random_maps(4)
    gradient = surrogate_gradient(torch.randn(2, 2, SIZE, SIZE).double(), maps, maps, random_regions(), (SIZE, SIZE))
    assert gradient.abs().max() < 1e-12 * SURROGATE_UNIT * 1e6


def test_step_size_follows_the_paper() -> None:
    rhos = 1e6 * torch.linspace(1.0, 0.5, 7, dtype=torch.float64).sqrt()
    assert [step_size(i, 7, 1e6, 64 * 64) for i in range(7)] == pytest.approx(rhos.tolist())
    assert step_size(0, 7, 1e6, 16 * 24) == pytest.approx(1e6 * 16 * 24 / 64**2)  # per area on other latents
