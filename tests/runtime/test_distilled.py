"""The samplers of distilled models, `lcm` and `tcd`, against diffusers' schedulers that are given the same noise."""

from typing import Any

import pytest
import torch
from diffusers import LCMScheduler, TCDScheduler
from torch import Tensor

from runtime import RealCompo, RealCompoError
from runtime.sampling import make_table, unable
from runtime.sampling.tables import advance, history_weights, start_history
from tests.runtime.bundles import SCHEDULER
from tests.runtime.test_pipeline import LAYOUT, PROMPT

ORACLES: dict[str, Any] = {"lcm": LCMScheduler, "tcd": TCDScheduler}
EXPLICIT = {name: value for name, value in SCHEDULER.items() if name != "_use_default_values"}
SIZE = (2, 4, 8, 8)


def predict(latents: Tensor, timestep: float) -> Tensor:
    return torch.tanh(1.3 * latents + timestep / 400) + 0.2 * latents


def run_table(sampler: str, steps: int, config: dict[str, Any]) -> Tensor:
    generator = torch.Generator().manual_seed(steps)
    table = make_table(sampler, steps, config)
    history = start_history(torch.randn(SIZE, generator=generator, dtype=torch.float64) * table.start)
    for step, weights in zip(table, history_weights(table), strict=True):
        if step.fresh:
            history[-1] = torch.randn(SIZE, generator=generator, dtype=torch.float64)
        advance(history, predict(history[0], step.timestep), weights)
    return history[0]


def run_diffusers(sampler: str, steps: int, config: dict[str, Any]) -> Tensor:
    generator = torch.Generator().manual_seed(steps)
    scheduler = ORACLES[sampler].from_config(config)
    scheduler.set_timesteps(steps)
    latents = torch.randn(SIZE, generator=generator, dtype=torch.float64) * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        predicted = predict(latents, int(timestep))
        if config["prediction_type"] == "v_prediction":  # as the checkpoint would say it
            alpha = scheduler.alphas_cumprod[int(timestep)].double()
            predicted = (predicted - (1 - alpha).sqrt() * latents) / alpha.sqrt()
        latents = scheduler.step(predicted, timestep, latents, generator=generator).prev_sample
    return latents


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 50])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("sampler", ORACLES)
def test_table_equals_diffusers(sampler: str, prediction: str, steps: int) -> None:
    config = EXPLICIT | {"prediction_type": prediction}
    wanted = run_diffusers(sampler, steps, config)
    assert (run_table(sampler, steps, config) - wanted).norm() < 1e-5 * wanted.norm()


@pytest.mark.parametrize("sampler", ORACLES)
@pytest.mark.parametrize("gradient", ["exact", "surrogate", "spatial"])
def test_a_run_of_few_steps_without_guidance(pipe: RealCompo, sampler: str, gradient: str) -> None:
    options = {"layout": LAYOUT, "steps": 4, "sampler": sampler, "gradient": gradient, "guidance_scale": 1.0}
    first, again, other = (pipe(PROMPT, seed=seed, **options) for seed in (1, 1, 2))
    assert torch.equal(first.latents, again.latents) and not torch.allclose(first.latents, other.latents)
    assert first.latents.isfinite().all()
    assert first.stats.rows["spatial"] == 4  # no unconditional rows


@pytest.mark.parametrize("sampler", ORACLES)
def test_more_steps_than_the_model_was_distilled_on(sampler: str) -> None:
    with pytest.raises(RealCompoError, match="steps=51 is out of range; this sampler takes 1 to 50"):
        make_table(sampler, 51, SCHEDULER)


@pytest.mark.parametrize("original", [1, 7, 30, 40, 50, 999, 2000])
@pytest.mark.parametrize("trained", [1, 30, 40, 1000])
@pytest.mark.parametrize("sampler", ORACLES)
def test_models_distilled_on_other_numbers_of_steps(sampler: str, trained: int, original: int) -> None:
    """What diffusers draws is drawn as it does; what it refuses is refused."""
    change = {"num_train_timesteps": trained, "original_inference_steps": original}
    config = EXPLICIT | change | {"_class_name": ORACLES[sampler].__name__}
    steps = min(4, original, trained)
    try:
        wanted = run_diffusers(sampler, steps, config)
    except ValueError:
        assert original > trained
        with pytest.raises(
            RealCompoError, match=f"original_inference_steps={original}; .* training timesteps, {trained}"
        ):
            make_table(sampler, steps, config)
        assert sampler in unable(config)
    else:
        assert (run_table(sampler, steps, config) - wanted).norm() < 1e-5 * wanted.norm()
