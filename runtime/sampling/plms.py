"""PLMS, pseudo linear multistep: DDIM's step on a mix of the last four predictions (Liu et al., arXiv 2202.09778)."""

import math
from collections.abc import Sequence

import numpy as np

from runtime.sampling.sampler import Sampler
from runtime.sampling.schedule import COMMON, Schedule, timesteps
from runtime.sampling.tables import SAMPLES_KEPT, Step, Table, denoising_step

# How predictions are mixed, newest first. Row 1 corrects row 0 from the same sample, and what it predicted there is
# left out afterwards: the zeros.
MIX = (
    (1.0,),
    (1 / 2, 1 / 2),
    (3 / 2, 0.0, -1 / 2),
    (23 / 12, -16 / 12, 0.0, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, 0.0, -9 / 24),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


def _table(schedule: Schedule, steps: int) -> Table:
    """One row more than steps: the first step evaluates twice."""
    placed = timesteps(schedule, steps)
    visited = [*placed[:2], *placed[1:]]
    return Table(tuple(_row(schedule, visited, i, schedule.trained // steps) for i in range(len(visited))))


def _row(schedule: Schedule, visited: Sequence[int], i: int, jump: int) -> Step:
    timestep = visited[i]
    start = timestep + jump if i == 1 else timestep
    step = denoising_step(schedule.alpha(start), schedule.alpha(start - jump), timestep)
    samples = (0.0, *step.samples) if i == 1 else step.samples
    row = Step(timestep, samples, tuple(step.noises[0] * weight for weight in MIX[min(i, 5)]), again=i == 1)
    if schedule.settings["prediction_type"] == "v_prediction":
        return _mix_velocities(row, schedule.alpha(start), [schedule.alpha(t) for t in visited[i::-1]])
    return row


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
    return row._replace(samples=tuple(samples.tolist()), noises=tuple(noises))


PLMS = Sampler("plms", "PNDMScheduler", _table, {**COMMON, "set_alpha_to_one": False})
