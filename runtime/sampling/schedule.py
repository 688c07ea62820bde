"""The noise that a checkpoint was trained with, and the timesteps of a run: a diffusers scheduler config, read."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from runtime.errors import RealCompoError
from runtime.messages import shown

# What diffusers' schedulers take where a config is silent
COMMON: Mapping[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "steps_offset": 0,
    "prediction_type": "epsilon",
    "timestep_spacing": "leading",
    "rescale_betas_zero_snr": False,
    "trained_betas": None,
}
# What any scheduler's config says of the noise and the timesteps in it. All else is that scheduler's way of drawing.
SHARED = {*COMMON, "set_alpha_to_one"}
# Numbers that a sampler may have among its settings, and what they lie between
_NUMBERS: Mapping[str, tuple[type, float, float]] = {
    "num_train_timesteps": (int, 1, 100_000),
    "steps_offset": (int, 0, 100_000),
    "beta_start": (float, 0, 1),
    "beta_end": (float, 0, 1),
    "original_inference_steps": (int, 1, 100_000),
    "timestep_scaling": (float, 0, 1_000_000),
}
# Settings that no table carries out otherwise
ONLY: Mapping[str, Any] = {"thresholding": False, "rescale_betas_zero_snr": False, "trained_betas": None}
# What the checkpoint predicts. Engines always give noise; only PLMS mixes what the checkpoint itself predicts.
PREDICTION_TYPES = ("epsilon", "v_prediction")


class Schedule(NamedTuple):
    """A scheduler config, read. `alphas` are the cumulative products, float64 of what training used in float32."""

    alphas: np.ndarray
    final_alpha: float
    settings: Mapping[str, Any]

    @property
    def trained(self) -> int:
        """The number of training timesteps."""
        return int(self.settings["num_train_timesteps"])

    def alpha(self, timestep: float) -> float:
        """The cumulative alpha; between two timesteps, that of sigmas interpolated as Karras et al. have them."""
        if timestep < 0:
            return self.final_alpha
        if timestep == int(timestep):
            return float(self.alphas[int(timestep)])
        sigmas = np.sqrt(1 / self.alphas - 1)
        return float(1 / (1 + np.interp(timestep, np.arange(len(sigmas)), sigmas) ** 2))


def read_schedule(
    config: Mapping[str, Any], scheduler: str, defaults: Mapping[str, Any], only: Mapping[str, Any]
) -> Schedule:
    """Fill in a config as diffusers' `from_config` does: defaults of another scheduler's do not carry over.

    Args:
        scheduler: the class in diffusers that draws as the sampler does. Of another class's config, what is not of the
            noise is left out: a sampler does not draw with another's settings.
        defaults: of the sampler's settings.
        only: settings that its table carries out at the given value alone.

    Raises:
        RealCompoError: a setting that no table can carry out.
    """
    own = config.get("_class_name") in (None, scheduler)
    settings = _settings(config, defaults, {*defaults, *ONLY, *only} if own else SHARED)
    _check_numbers(settings)
    if settings["prediction_type"] not in PREDICTION_TYPES:
        raise _unable(settings, "prediction_type", " or ".join(PREDICTION_TYPES))
    for name, value in {**ONLY, **only}.items():
        if settings.get(name, value) != value:
            raise _unable(settings, name, repr(value))
    alphas = _cumulative_alphas(settings)
    return Schedule(alphas, 1.0 if settings["set_alpha_to_one"] else float(alphas[0]), settings)


def timesteps(schedule: Schedule, steps: int, spare: int = 0) -> list[int]:
    """Training timesteps, descending; a sampler may spare the last of one more point.

    Raises:
        RealCompoError: an unknown spacing, or more steps than it can place.
    """
    spacing = schedule.settings["timestep_spacing"]
    placed = [int(timestep) for timestep in _ascending(schedule, steps, spare)[::-1][:steps]]
    if len(set(placed)) < steps or placed[0] >= schedule.trained:
        raise RealCompoError(
            f"steps={steps} does not fit {schedule.trained} training timesteps with {spacing} spacing; use fewer"
        )
    return placed


def inherited(config: Mapping[str, Any]) -> list[str]:
    """The settings whose values in a config are its own scheduler's defaults.

    Raises:
        RealCompoError: the config does not say it in names.
    """
    names: Any = config.get("_use_default_values") or []
    if not (isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)):
        raise _unable(config, "_use_default_values", "a list of names")
    return [*names]


def _settings(config: Mapping[str, Any], defaults: Mapping[str, Any], taken: Collection[str]) -> dict[str, Any]:
    left_out = inherited(config)
    given = {name: value for name, value in config.items() if value is not None and name not in left_out}
    return {**defaults, **{name: value for name, value in given.items() if name in taken}}


def _unable(settings: Mapping[str, Any], name: str, takes: str) -> RealCompoError:
    """Of a setting, which may be a list of as many numbers as there are training timesteps."""
    return RealCompoError(f"the scheduler has {name}={shown(repr(settings[name]))}; this runtime takes {takes}")


def _check_numbers(settings: Mapping[str, Any]) -> None:
    for name, (kind, low, high) in _NUMBERS.items():
        value: Any = settings.get(name, low)
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not (whole or (kind is float and isinstance(value, float))) or not low <= value <= high:
            raise _unable(settings, name, f"a number from {low} to {high}")


def _ascending(schedule: Schedule, steps: int, spare: int) -> np.ndarray:
    trained, points, spacing = schedule.trained, steps + spare, schedule.settings["timestep_spacing"]
    if spacing == "leading":
        return np.arange(points) * (trained // points) + schedule.settings["steps_offset"]
    if spacing == "linspace":
        return np.linspace(0, trained - 1, points).round()
    if spacing == "trailing":
        return np.arange(trained, 0, -trained / steps).round()[::-1] - 1
    raise _unable(schedule.settings, "timestep_spacing", "leading, linspace or trailing")


def _cumulative_alphas(settings: Mapping[str, Any]) -> np.ndarray:
    start, end, count = (settings[name] for name in ("beta_start", "beta_end", "num_train_timesteps"))
    # in float32 and torch, as training had them: near timestep 0 they differ from float64's in the fifth digit
    if settings["beta_schedule"] == "linear":
        betas = torch.linspace(start, end, count, dtype=torch.float32)
    elif settings["beta_schedule"] == "scaled_linear":
        betas = torch.linspace(start**0.5, end**0.5, count, dtype=torch.float32) ** 2
    else:
        raise _unable(settings, "beta_schedule", "linear or scaled_linear")
    alphas = torch.cumprod(1 - betas, 0).double().numpy()
    if not 0 < alphas[-1] <= alphas[0] < 1:
        raise RealCompoError(
            f"the scheduler has {count} betas from {start} to {end}; this runtime takes such that leave noise at the "
            "first timestep and a picture at the last"
        )
    return alphas
