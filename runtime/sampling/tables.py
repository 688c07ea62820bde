"""Deterministic samplers as tables of linear coefficients, made once per run.

Every row says how the next latents follow from the latest samples and noise predictions, so a step is one weighted sum
whose derivative is known. The tables equal what diffusers' schedulers do, given the same config.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from runtime.errors import RealCompoError

SAMPLES_KEPT, NOISES_KEPT = 5, 5  # the longest rows of any table


class Step(NamedTuple):
    """x_(i+1) = sum_j samples[j] * x_(i-j) + sum_j noises[j] * eps_(i-j); eps_i is predicted at (x_i, timestep).

    `trial` are the weights of x_i and eps_i in a DDIM step to the table's next timestep: whatever the sampler, that is
    how the exact balancer looks ahead.
    """

    timestep: int
    samples: tuple[float, ...]
    noises: tuple[float, ...]
    trial: tuple[float, float] = (1.0, 0.0)


class Schedule(NamedTuple):
    """A scheduler config, read. `alphas` are the cumulative products, float64 of what training used in float32."""

    alphas: np.ndarray
    final_alpha: float
    settings: Mapping[str, Any]

    def alpha(self, timestep: int) -> float:
        return float(self.alphas[timestep]) if timestep >= 0 else self.final_alpha


COMMON = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "steps_offset": 0,
    "prediction_type": "epsilon",
    "timestep_spacing": "leading",
    "thresholding": False,
    "rescale_betas_zero_snr": False,
}
# What diffusers' scheduler of each sampler takes where a config is silent
DEFAULTS: dict[str, dict[str, Any]] = {
    "ddim": COMMON | {"set_alpha_to_one": True, "clip_sample": True},
    "plms": COMMON | {"set_alpha_to_one": False},
    "dpm++2m": COMMON
    | {
        "timestep_spacing": "linspace",
        "final_sigmas_type": "zero",
        "set_alpha_to_one": True,
        "solver_order": 2,
        "algorithm_type": "dpmsolver++",
        "solver_type": "midpoint",
        "lower_order_final": True,
        "euler_at_final": False,
        "use_karras_sigmas": False,
        "use_exponential_sigmas": False,
        "use_beta_sigmas": False,
        "use_lu_lambdas": False,
        "use_flow_sigmas": False,
    },
}
# What the checkpoint predicts. Engines always give noise; only PLMS mixes what the checkpoint itself predicts.
PREDICTION_TYPES = ("epsilon", "v_prediction")
# Settings that the tables carry out; each other one has to be at the value given here
SUPPORTED = {
    "thresholding": False,
    "rescale_betas_zero_snr": False,
    "clip_sample": False,
    "trained_betas": None,
    **{
        name: DEFAULTS["dpm++2m"][name]
        for name in DEFAULTS["dpm++2m"]
        if name.startswith(("solver", "algorithm", "use_", "lower_order", "euler"))
    },
}


def make_table(sampler: str, steps: int, config: Mapping[str, Any]) -> tuple[Step, ...]:
    """The rows of a run: `steps` of them, for `plms` one more because its first step evaluates twice.

    Args:
        sampler: `ddim` (arXiv 2010.02502), `plms` (2202.09778) or `dpm++2m` (2211.01095).
        steps: 1 to the number of training timesteps.
        config: a diffusers scheduler config.

    Raises:
        RealCompoError: an unknown sampler, a config that no linear table can carry out, or too few or many steps.
    """
    if sampler not in TABLES:
        raise RealCompoError(f"sampler={sampler!r} is unknown; use one of {', '.join(TABLES)}")
    schedule = _read_schedule(config, DEFAULTS[sampler])
    trained = schedule.settings["num_train_timesteps"]
    if not 1 <= steps <= trained:
        raise RealCompoError(f"steps={steps} is out of range; use 1 to {trained}, the training timesteps")
    return _with_trials(schedule, TABLES[sampler](schedule, steps))


def _with_trials(schedule: Schedule, rows: Sequence[Step]) -> tuple[Step, ...]:
    timesteps = sorted({row.timestep for row in rows}, reverse=True)
    alphas = [*map(schedule.alpha, timesteps), schedule.final_alpha]
    following = dict(zip(timesteps, alphas[1:], strict=True))

    def trial(row: Step) -> tuple[float, float]:
        step = _denoising_step(schedule.alpha(row.timestep), following[row.timestep], row.timestep)
        return step.samples[0], step.noises[0]

    return tuple(row._replace(trial=trial(row)) for row in rows)


def start_history(latents: Tensor) -> Tensor:
    """A history (SAMPLES_KEPT + NOISES_KEPT,B,4,h,w) of samples, then noise predictions, both newest first: as yet of
    one sample, the starting latents, and zeros.
    """
    history = latents.new_zeros((SAMPLES_KEPT + NOISES_KEPT, *latents.shape))
    history[0] = latents
    return history


def history_weights(table: Sequence[Step]) -> Tensor:
    """The table's weights of a history, (rows, SAMPLES_KEPT + NOISES_KEPT) float64."""
    weights = torch.zeros((len(table), SAMPLES_KEPT + NOISES_KEPT), dtype=torch.float64)
    for row, step in zip(weights, table, strict=True):
        row[: len(step.samples)] = torch.tensor(step.samples, dtype=weights.dtype)
        row[SAMPLES_KEPT : SAMPLES_KEPT + len(step.noises)] = torch.tensor(step.noises, dtype=weights.dtype)
    return weights


def advance(history: Tensor, noise: Tensor, weights: Tensor) -> None:
    """Add a noise prediction (B,4,h,w) to the history, then the sample that follows by a row's weights (1,kept).

    In place, for a CUDA graph finds the history where it was when the graph was captured.
    """
    samples, noises = history.split([SAMPLES_KEPT, NOISES_KEPT])
    _push(noises, noise)
    _push(samples, (weights @ history.flatten(1)).view_as(noise))


def _push(kept: Tensor, newest: Tensor) -> None:
    kept.copy_(torch.cat([newest.unsqueeze(0), kept[:-1]]))


def _ddim(schedule: Schedule, steps: int) -> list[Step]:
    """DDIM with eta 0."""
    jump = schedule.settings["num_train_timesteps"] // steps
    return [
        _denoising_step(schedule.alpha(timestep), schedule.alpha(timestep - jump), timestep)
        for timestep in _timesteps(schedule, steps)
    ]


# How PLMS mixes predictions, newest first. Row 1 corrects row 0 from the same sample, and what it predicted there is
# left out afterwards: the zeros.
PLMS = (
    (1.0,),
    (1 / 2, 1 / 2),
    (3 / 2, 0.0, -1 / 2),
    (23 / 12, -16 / 12, 0.0, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, 0.0, -9 / 24),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


def _plms(schedule: Schedule, steps: int) -> list[Step]:
    """Pseudo linear multistep: DDIM's step on a mix of the last four predictions."""
    jump = schedule.settings["num_train_timesteps"] // steps
    timesteps = _timesteps(schedule, steps)
    visited = [*timesteps[:2], *timesteps[1:]]
    rows = []
    for i, timestep in enumerate(visited):
        start = timestep + jump if i == 1 else timestep
        step = _denoising_step(schedule.alpha(start), schedule.alpha(start - jump), timestep)
        samples = (0.0, *step.samples) if i == 1 else step.samples
        noises = tuple(step.noises[0] * weight for weight in PLMS[min(i, 5)])
        row = Step(timestep, samples, noises)
        if schedule.settings["prediction_type"] == "v_prediction":
            row = _mix_velocities(row, schedule.alpha(start), [schedule.alpha(t) for t in visited[i::-1]])
        rows.append(row)
    return rows


def _mix_velocities(row: Step, alpha: float, alphas: Sequence[float]) -> Step:
    """The row that mixes velocities v = (eps - sqrt(1-alpha_j) * x) / sqrt(alpha_j) as `row` mixes noises, then turns
    the mix into noise at `alpha` and the row's own sample: diffusers' PLMS for models that predict v.
    """
    base = row.samples.index(next(filter(None, row.samples)))
    samples = np.zeros(SAMPLES_KEPT)
    samples[base] = row.samples[base] + sum(row.noises) * math.sqrt(1 - alpha)
    noises = [weight * math.sqrt(alpha / past) for weight, past in zip(row.noises, alphas, strict=False)]
    for j, (weight, past) in enumerate(zip(noises, alphas, strict=False)):
        samples[j] -= weight * math.sqrt(1 - past)
    return Step(row.timestep, tuple(samples.tolist()), tuple(noises))


def _dpm_solver(schedule: Schedule, steps: int) -> list[Step]:
    """DPM-Solver++(2M), midpoint; first order at the first row and, where diffusers does so, at the last."""
    timesteps = _timesteps(schedule, steps, spare=1)
    alphas = [schedule.alpha(timestep) for timestep in timesteps]
    ends_clean = schedule.settings["final_sigmas_type"] == "zero"
    alphas.append(1.0 if ends_clean else schedule.alpha(0))
    rows = [_denoising_step(alphas[0], alphas[1], timesteps[0])]
    for i in range(1, steps):
        if i == steps - 1 and (ends_clean or steps < 15):
            rows.append(_denoising_step(alphas[i], alphas[i + 1], timesteps[i]))
        else:
            rows.append(_second_order_step(alphas[i - 1], alphas[i], alphas[i + 1], timesteps[i]))
    return rows


TABLES: dict[str, Callable[[Schedule, int], list[Step]]] = {"ddim": _ddim, "plms": _plms, "dpm++2m": _dpm_solver}


def _denoising_step(alpha: float, following: float, timestep: int) -> Step:
    """Denoise from one cumulative alpha to the following: DDIM, and all first-order steps of the other two."""
    scale = math.sqrt(following / alpha)
    return Step(timestep, (scale,), (math.sqrt(1 - following) - scale * math.sqrt(1 - alpha),))


def _second_order_step(previous: float, alpha: float, following: float, timestep: int) -> Step:
    """Extrapolate the predicted clean image, (x - sqrt(1-alpha)*eps) / sqrt(alpha), from the last two."""
    kept = math.sqrt((1 - following) / (1 - alpha))
    added = math.sqrt(following) - kept * math.sqrt(alpha)
    slope = 0.5 * (_log_snr(following) - _log_snr(alpha)) / (_log_snr(alpha) - _log_snr(previous))
    now, before = added * (1 + slope), -added * slope
    return Step(
        timestep,
        (kept + now / math.sqrt(alpha), before / math.sqrt(previous)),
        (-now * math.sqrt(1 / alpha - 1), -before * math.sqrt(1 / previous - 1)),
    )


def _log_snr(alpha: float) -> float:
    return 0.5 * math.log(alpha / (1 - alpha))


def _timesteps(schedule: Schedule, steps: int, spare: int = 0) -> list[int]:
    """Training timesteps, descending; DPM-Solver spares the last of one more point."""
    settings, points = schedule.settings, steps + spare
    trained, offset, spacing = (settings[name] for name in ("num_train_timesteps", "steps_offset", "timestep_spacing"))
    if spacing == "leading":
        ascending = np.arange(points) * (trained // points) + offset
    elif spacing == "linspace":
        ascending = np.linspace(0, trained - 1, points).round()
    elif spacing == "trailing":
        ascending = np.arange(trained, 0, -trained / steps).round()[::-1] - 1
    else:
        raise RealCompoError(f"timestep_spacing={spacing!r} is unknown; use leading, linspace or trailing")
    timesteps = [int(timestep) for timestep in ascending[::-1][:steps]]
    if len(set(timesteps)) < steps or timesteps[0] >= trained:
        raise RealCompoError(
            f"steps={steps} does not fit {trained} training timesteps with {spacing} spacing; use fewer"
        )
    return timesteps


def _read_schedule(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> Schedule:
    """Fill in a config as diffusers' `from_config` does: defaults of another scheduler's do not carry over."""
    inherited = config.get("_use_default_values", ())
    given = {name: value for name, value in config.items() if value is not None and name not in inherited}
    settings = {**defaults, **{name: value for name, value in given.items() if name in {*defaults, "trained_betas"}}}
    if settings["prediction_type"] not in PREDICTION_TYPES:
        raise RealCompoError(
            f"the bundle's scheduler has prediction_type={settings['prediction_type']!r}; "
            f"this runtime takes {' or '.join(PREDICTION_TYPES)}"
        )
    for name, value in SUPPORTED.items():
        if settings.get(name, value) != value:
            raise RealCompoError(f"the bundle's scheduler has {name}={settings[name]!r}; this runtime takes {value!r}")
    alphas = _cumulative_alphas(settings)
    return Schedule(alphas, 1.0 if settings["set_alpha_to_one"] else float(alphas[0]), settings)


def _cumulative_alphas(settings: Mapping[str, Any]) -> np.ndarray:
    start, end, count = (settings[name] for name in ("beta_start", "beta_end", "num_train_timesteps"))
    # in float32 and torch, as training had them: near timestep 0 they differ from float64's in the fifth digit
    if settings["beta_schedule"] == "linear":
        betas = torch.linspace(start, end, count, dtype=torch.float32)
    elif settings["beta_schedule"] == "scaled_linear":
        betas = torch.linspace(start**0.5, end**0.5, count, dtype=torch.float32) ** 2
    else:
        raise RealCompoError(
            f"beta_schedule={settings['beta_schedule']!r} is not supported; use linear or scaled_linear"
        )
    return torch.cumprod(1 - betas, 0).double().numpy()
