"""Samplers that add fresh noise: DDIM with eta 1, made a row of the table by this test, against diffusers' own."""

from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler

from runtime import RealCompo
from runtime.sampling import SAMPLERS
from runtime.sampling.schedule import Schedule, timesteps
from runtime.sampling.tables import Step, Table
from tests.runtime.bundles import LATENT, SCHEDULER
from tests.runtime.test_pipeline import LAYOUT, PROMPT

STEPS, SEED = 5, 9


def stochastic(schedule: Schedule, steps: int) -> Table:
    """Formula (16) of arXiv 2010.02502, eta 1."""
    rows = []
    for timestep in timesteps(schedule, steps):
        alpha, following = schedule.alpha(timestep), schedule.alpha(timestep - schedule.trained // steps)
        sigma = ((1 - following) / (1 - alpha) * (1 - alpha / following)) ** 0.5
        kept = (following / alpha) ** 0.5
        rows.append(
            Step(timestep, (kept,), ((1 - following - sigma**2) ** 0.5 - kept * (1 - alpha) ** 0.5,), fresh=sigma)
        )
    return Table(tuple(rows))


@pytest.fixture
def pipe(pipe: RealCompo, monkeypatch: pytest.MonkeyPatch) -> RealCompo:
    monkeypatch.setitem(SAMPLERS, "noisy", replace(SAMPLERS["ddim"], name="noisy", table=stochastic))
    return pipe


def test_fresh_noise_is_drawn_from_the_runs_seed_as_diffusers_adds_it(pipe: RealCompo) -> None:
    found = pipe(PROMPT, layout=LAYOUT, steps=STEPS, seed=SEED, sampler="noisy", gradient="spatial", trace=True)
    # The runtime's noise predictions are those of its own latents: replay its run with diffusers' step.
    generator = torch.Generator().manual_seed(SEED)
    latents = torch.randn(1, 4, LATENT, LATENT, generator=generator)
    torch.randn(1, 2, LATENT, LATENT, generator=generator)  # the coefficients
    scheduler = DDIMScheduler.from_config(SCHEDULER)
    scheduler.set_timesteps(STEPS)
    for timestep in scheduler.timesteps:
        noise = predict(pipe, latents, float(timestep))
        fresh = torch.randn(latents.shape, generator=generator)
        latents = scheduler.step(noise, timestep, latents, eta=1.0, variance_noise=fresh).prev_sample
    torch.testing.assert_close(found.latents, latents, rtol=1e-4, atol=1e-4)


def predict(pipe: RealCompo, latents: torch.Tensor, timestep: float) -> torch.Tensor:
    """The guided prediction of the spatial model: what a DDIM step of eta 0 reveals of it."""
    seen: list[torch.Tensor] = []
    engine = pipe._runners["spatial"]

    class Spy:
        spec = engine.spec

        def __call__(self, **tensors: torch.Tensor) -> dict[str, torch.Tensor]:
            tensors["timestep"] = torch.full_like(tensors["timestep"], timestep)
            outputs = engine(**tensors)
            unconditional, conditional = outputs["noise_pred"].clone().chunk(2)
            seen.append(unconditional + 7.5 * (conditional - unconditional))
            return outputs

    pipe._runners["spatial"] = Spy()  # type: ignore[index]
    try:
        pipe(PROMPT, layout=LAYOUT, steps=1, sampler="ddim", gradient="spatial", latents=latents)
    finally:
        pipe._runners["spatial"] = engine  # type: ignore[index]
    return seen[0]


def test_the_same_seed_draws_the_same_noise_and_another_seed_other_noise(pipe: RealCompo) -> None:
    def draw(seed: int) -> torch.Tensor:
        start = torch.zeros(1, 4, LATENT, LATENT)
        options = {"steps": STEPS, "sampler": "noisy", "gradient": "spatial", "latents": start}
        return pipe(PROMPT, layout=LAYOUT, seed=seed, **options).latents

    assert torch.equal(draw(1), draw(1))
    assert not torch.allclose(draw(1), draw(2))
