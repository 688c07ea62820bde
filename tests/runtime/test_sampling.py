"""The tables against diffusers' schedulers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers.schedulers import (
    DDIMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

from runtime import RealCompoError
from runtime.sampling import SAMPLERS, make_table, unable
from runtime.sampling.tables import advance, history_weights, start_history
from tests.runtime.bundles import SCHEDULER

ORACLES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "ddim": DDIMScheduler.from_config,
    "plms": lambda config: PNDMScheduler.from_config(config, skip_prk_steps=True),
    "dpm++2m": DPMSolverMultistepScheduler.from_config,
}
EXPLICIT = {name: value for name, value in SCHEDULER.items() if name != "_use_default_values"}


def predict(latents: Tensor, timestep: int) -> Tensor:
    return torch.tanh(1.3 * latents + timestep / 400) + 0.2 * latents


def run_table(sampler: str, steps: int, config: dict[str, Any], start: Tensor) -> Tensor:
    table, history = make_table(sampler, steps, config), start_history(start)
    for step, weights in zip(table, history_weights(table).to(start.dtype), strict=True):
        advance(history, predict(history[0], step.timestep), weights)
    return history[0]


def run_diffusers(sampler: str, steps: int, config: dict[str, Any], start: Tensor) -> Tensor:
    scheduler = ORACLES[sampler](config)
    scheduler.set_timesteps(steps)
    for timestep in scheduler.timesteps:
        predicted = predict(start, int(timestep))
        if config["prediction_type"] == "v_prediction":  # as the checkpoint would say it
            alpha = scheduler.alphas_cumprod[int(timestep)].double()
            predicted = (predicted - (1 - alpha).sqrt() * start) / alpha.sqrt()
        start = scheduler.step(predicted, timestep, start).prev_sample
    return start


def check_equal(sampler: str, steps: int, config: dict[str, Any], dtype: torch.dtype = torch.float64) -> None:
    start = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(steps), dtype=dtype)
    wanted = run_diffusers(sampler, steps, config, start)
    assert (run_table(sampler, steps, config, start) - wanted).norm() < 1e-5 * wanted.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 10, 20, 50])
@pytest.mark.parametrize("sampler", ORACLES)
def test_table_equals_diffusers(sampler: str, steps: int, dtype: torch.dtype) -> None:
    check_equal(sampler, steps, SCHEDULER, dtype)


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
@pytest.mark.parametrize("sampler", ORACLES)
def test_spacing_that_a_config_states(sampler: str, spacing: str) -> None:
    check_equal(sampler, 12, EXPLICIT | {"timestep_spacing": spacing})


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 20])
@pytest.mark.parametrize("sampler", ORACLES)
def test_checkpoints_that_predict_velocity(sampler: str, steps: int) -> None:
    check_equal(sampler, steps, EXPLICIT | {"prediction_type": "v_prediction"})


@pytest.mark.parametrize("change", [{"set_alpha_to_one": True}, {"beta_schedule": "linear"}, {"steps_offset": 0}])
@pytest.mark.parametrize("sampler", ORACLES)
def test_other_schedules(sampler: str, change: dict[str, Any]) -> None:
    check_equal(sampler, 7, EXPLICIT | change)


@pytest.mark.parametrize("steps", [9, 20])
def test_dpm_solver_that_ends_at_the_last_trained_noise(steps: int) -> None:
    check_equal("dpm++2m", steps, EXPLICIT | {"final_sigmas_type": "sigma_min", "timestep_spacing": "linspace"})


def test_diffusers_own_configs_are_taken() -> None:
    for scheduler in (PNDMScheduler, DPMSolverMultistepScheduler):
        config = dict(scheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012).config)
        check_equal("plms", 6, config)
        check_equal("dpm++2m", 6, config)


@pytest.mark.parametrize("steps", [0, -1, 1001])
@pytest.mark.parametrize("sampler", ORACLES)
def test_steps_out_of_range(sampler: str, steps: int) -> None:
    with pytest.raises(RealCompoError, match=f"steps={steps} is out of range; use 1 to 1000"):
        make_table(sampler, steps, SCHEDULER)


@pytest.mark.parametrize("sampler", ORACLES)
def test_steps_that_the_spacing_cannot_place(sampler: str) -> None:
    with pytest.raises(RealCompoError, match=r"steps=1000 does not fit .* use fewer"):
        make_table(sampler, 1000, SCHEDULER)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction_type": "sample"}, "prediction_type='sample'; this runtime takes epsilon or v_prediction"),
        ({"clip_sample": True}, "clip_sample=True; this runtime takes False"),
        ({"beta_schedule": "squaredcos_cap_v2"}, "takes linear or scaled_linear"),
        ({"timestep_spacing": "karras"}, "takes leading, linspace or trailing"),
        ({"trained_betas": [0.1] * 1000}, r"trained_betas=\[0.1, .*….* 0.1\]; this runtime takes None"),
        ({"steps_offset": [0.1] * 1000}, "steps_offset=.*….*takes a number from 0"),
        ({"beta_schedule": "x" * 1000}, "beta_schedule=.*….*takes linear or scaled_linear"),
        ({"beta_end": 1.0}, "takes such that leave noise at the first timestep and a picture at the last"),
        ({"_use_default_values": 3}, "_use_default_values=3; this runtime takes a list of names"),
    ],
)
def test_configs_that_no_table_can_carry_out(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RealCompoError, match=message) as found:
        make_table("ddim", 5, EXPLICIT | change)
    assert len(str(found.value)) < 200
    assert unable(EXPLICIT | change)["ddim"]  # as a build says it


@pytest.mark.parametrize("value", ["x", [], {}, -1, 0, 0.5, True, float("nan"), float("inf"), 10**30, "1e-3"], ids=repr)
@pytest.mark.parametrize("name", sorted({name for sampler in SAMPLERS.values() for name in sampler.defaults}))
def test_whatever_a_setting_holds_there_is_a_table_or_one_line(name: str, value: Any) -> None:
    for sampler, row in SAMPLERS.items():
        try:
            table = make_table(sampler, 4, EXPLICIT | {"_class_name": row.scheduler, name: value})
        except RealCompoError as error:
            assert len(str(error)) < 200
        else:
            assert history_weights(table).isfinite().all() and min(row.timestep for row in table) >= 0


def test_unknown_sampler() -> None:
    with pytest.raises(RealCompoError, match=r"sampler='heun' is unknown; use one of ddim, plms, dpm\+\+2m"):
        make_table("heun", 5, SCHEDULER)


NOISE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}
FOUND = {  # schedulers that repositories name, with what is theirs alone
    "PNDM": PNDMScheduler(**NOISE, skip_prk_steps=True, set_alpha_to_one=False),
    "DDIM": DDIMScheduler(**NOISE, clip_sample=False, set_alpha_to_one=False),
    "Euler": EulerDiscreteScheduler(**NOISE, interpolation_type="log_linear", final_sigmas_type="sigma_min"),
    "DPM-Solver, Karras": DPMSolverMultistepScheduler(
        **NOISE, use_karras_sigmas=True, algorithm_type="sde-dpmsolver++"
    ),
    "DEIS": DEISMultistepScheduler(**NOISE, solver_order=3),
    "UniPC": UniPCMultistepScheduler(**NOISE, solver_type="bh1", thresholding=True),
    "LCM": LCMScheduler(**NOISE, original_inference_steps=40),
}


@pytest.mark.parametrize("found", FOUND)
@pytest.mark.parametrize("sampler", ORACLES)
def test_a_sampler_takes_the_noise_alone_from_anothers_config(sampler: str, found: str) -> None:
    config = dict(FOUND[found].config) | {"_class_name": type(FOUND[found]).__name__}
    if sampler in unable(config):
        assert found == "DPM-Solver, Karras" and sampler == "dpm++2m"  # its own, which it cannot draw as
        return
    shared = {name: config[name] for name in ("timestep_spacing", "set_alpha_to_one") if name in config}
    implied = set(config.get("_use_default_values", ()))
    stated = {name: value for name, value in shared.items() if name not in implied}
    wanted = NOISE | stated | {"clip_sample": False, "prediction_type": "epsilon"}
    start = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = run_diffusers(sampler, 9, wanted, start)
    assert (run_table(sampler, 9, config, start) - expected).norm() < 1e-5 * expected.norm()


def test_which_samplers_cannot_draw_and_why() -> None:
    assert unable(EXPLICIT) == {}
    karras = unable(EXPLICIT | {"_class_name": "DPMSolverMultistepScheduler", "use_karras_sigmas": True})
    assert karras == {"dpm++2m": "the scheduler has use_karras_sigmas=True; this runtime takes False"}
    assert len(unable(EXPLICIT | {"rescale_betas_zero_snr": True})) == len(SAMPLERS)


@pytest.mark.parametrize(
    "change",
    [
        {"num_train_timesteps": "1000"},
        {"num_train_timesteps": 0},
        {"beta_start": "x"},
        {"beta_end": 3},
        {"steps_offset": -1},
    ],
)
def test_numbers_that_are_none(change: dict[str, Any]) -> None:
    with pytest.raises(RealCompoError, match=f"{next(iter(change))}=.*; this runtime takes a number from"):
        make_table("plms", 5, EXPLICIT | change)
