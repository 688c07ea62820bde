"""The sampler `euler` against diffusers' EulerDiscreteScheduler, which works on latents that are not scaled."""

from typing import Any

import pytest
import torch
from diffusers import EulerDiscreteScheduler
from torch import Tensor

from runtime import RealCompo, RealCompoError
from runtime.sampling import make_table
from runtime.sampling.tables import advance, history_weights, start_history
from tests.runtime.bundles import SCHEDULER
from tests.runtime.test_pipeline import LAYOUT, PROMPT

EXPLICIT = {name: value for name, value in SCHEDULER.items() if name != "_use_default_values"}


def predict(latents: Tensor, timestep: float) -> Tensor:
    """Noise, of latents of variance 1."""
    return torch.tanh(1.3 * latents + timestep / 400) + 0.2 * latents


def run_table(steps: int, config: dict[str, Any], drawn: Tensor) -> Tensor:
    table = make_table("euler", steps, config)
    history = start_history(drawn * table.start)
    for step, weights in zip(table, history_weights(table), strict=True):
        advance(history, predict(history[0], step.timestep), weights)
    return history[0]


def run_diffusers(steps: int, config: dict[str, Any], drawn: Tensor) -> Tensor:
    scheduler = EulerDiscreteScheduler.from_config(config)
    scheduler.set_timesteps(steps)
    latents = drawn * scheduler.init_noise_sigma
    for i, timestep in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(latents, timestep)
        predicted = predict(scaled, float(timestep))
        if config["prediction_type"] == "v_prediction":  # as the checkpoint would say it
            alpha = 1 / (1 + scheduler.sigmas[i].double() ** 2)
            predicted = (predicted - (1 - alpha).sqrt() * scaled) / alpha.sqrt()
        latents = scheduler.step(predicted, timestep, latents).prev_sample
    return latents


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 20, 50])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
def test_table_equals_diffusers(steps: int, prediction: str, spacing: str) -> None:
    config = EXPLICIT | {"timestep_spacing": spacing, "prediction_type": prediction}
    drawn = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(steps), dtype=torch.float64)
    wanted = run_diffusers(steps, config, drawn)
    assert (run_table(steps, config, drawn) - wanted).norm() < 1e-5 * wanted.norm()


def test_a_config_that_says_nothing_of_spacing_has_fractional_timesteps() -> None:
    placed = [step.timestep for step in make_table("euler", 7, SCHEDULER)]
    scheduler = EulerDiscreteScheduler.from_config(SCHEDULER)
    scheduler.set_timesteps(7)
    assert placed == pytest.approx(scheduler.timesteps.tolist()) and placed[1] == 832.5


def test_engines_are_told_fractional_timesteps(pipe: RealCompo) -> None:
    trace = pipe(PROMPT, layout=LAYOUT, steps=7, sampler="euler", gradient="exact", trace=True).trace
    assert [step.timestep for step in trace][:2] == [999, 832.5]


def test_karras_sigmas_are_refused() -> None:
    with pytest.raises(RealCompoError, match="use_karras_sigmas=True; this runtime takes False"):
        make_table("euler", 5, EXPLICIT | {"use_karras_sigmas": True})
