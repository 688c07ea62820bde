"""Euler's method on the probability flow in sigma (Karras et al., arXiv 2206.00364): DDIM's step between fractional
timesteps, with sigmas interpolated."""

import math

import numpy as np

from runtime.sampling.sampler import Sampler
from runtime.sampling.schedule import COMMON, Schedule, timesteps
from runtime.sampling.tables import Table, denoising_step

ONLY = {
    "final_sigmas_type": "zero",
    "interpolation_type": "linear",
    "timestep_type": "discrete",
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
}


def _table(schedule: Schedule, steps: int) -> Table:
    placed = _placed(schedule, steps)
    alphas = [*map(schedule.alpha, placed), 1.0]
    rows = (denoising_step(alphas[i], alphas[i + 1], placed[i]) for i in range(steps))
    return Table(tuple(rows), start=_start(schedule, alphas[0]))


def _start(schedule: Schedule, alpha: float) -> float:
    """diffusers starts from noise alone, as if there were no image in it, unless spacing is leading."""
    return 1.0 if schedule.settings["timestep_spacing"] == "leading" else math.sqrt(1 - alpha)


def _placed(schedule: Schedule, steps: int) -> list[float]:
    if schedule.settings["timestep_spacing"] == "linspace":
        return np.linspace(0, schedule.trained - 1, steps)[::-1].tolist()
    return [*map(float, timesteps(schedule, steps))]


EULER = Sampler(
    "euler",
    "EulerDiscreteScheduler",
    _table,
    {**COMMON, **ONLY, "timestep_spacing": "linspace", "set_alpha_to_one": True},
    ONLY,
)
