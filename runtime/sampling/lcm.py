"""LCM, multistep consistency sampling (Luo et al., arXiv 2310.04378), for models distilled to it: predict the clean
image, then add fresh noise."""

import math

import numpy as np

from runtime.errors import RealCompoError
from runtime.sampling.sampler import Sampler
from runtime.sampling.schedule import COMMON, Schedule
from runtime.sampling.tables import Step, Table

SIGMA_DATA = 0.5
SETTINGS = {"original_inference_steps": 50, "timestep_scaling": 10.0, "set_alpha_to_one": True, "clip_sample": False}


def distilled_timesteps(schedule: Schedule, steps: int) -> list[int]:
    """Training timesteps, descending: as many as are asked for of those that the model was distilled on.

    Raises:
        RealCompoError: there are not so many, or the model was distilled on more than it was trained on.
    """
    most = schedule.settings["original_inference_steps"]
    if most > schedule.trained:
        raise RealCompoError(
            f"the scheduler has original_inference_steps={most}; this sampler takes at most as many as there are "
            f"training timesteps, {schedule.trained}"
        )
    if steps > most:
        raise RealCompoError(
            f"steps={steps} is out of range; this sampler takes 1 to {most}, and models made for it 1 to 8"
        )
    distilled = (np.arange(1, most + 1) * (schedule.trained // most) - 1)[::-1]
    return distilled[np.linspace(0, most, steps, endpoint=False).astype(int)].tolist()


def _table(schedule: Schedule, steps: int) -> Table:
    placed = distilled_timesteps(schedule, steps)
    following = [*map(schedule.alpha, placed[1:]), 1.0]
    return Table(tuple(_row(schedule, timestep, alpha) for timestep, alpha in zip(placed, following, strict=True)))


def _row(schedule: Schedule, timestep: int, following: float) -> Step:
    """The clean image, mixed with the sample as the boundary condition asks, then noise up to the following alpha."""
    alpha, scaled = schedule.alpha(timestep), timestep * schedule.settings["timestep_scaling"]
    skip = SIGMA_DATA**2 / (scaled**2 + SIGMA_DATA**2)
    out = scaled / math.hypot(scaled, SIGMA_DATA)
    kept = math.sqrt(following)
    sample, noise = kept * (out / math.sqrt(alpha) + skip), -kept * out * math.sqrt(1 / alpha - 1)
    return Step(timestep, (sample,), (noise,), fresh=math.sqrt(1 - following))


LCM = Sampler("lcm", "LCMScheduler", _table, {**COMMON, **SETTINGS}, {"clip_sample": False}, spaced=False)
