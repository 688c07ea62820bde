"""TCD, strategic stochastic sampling (Zheng et al., arXiv 2402.19159), for models distilled to it: go back further than
the next timestep, then add fresh noise up to it."""

import math
from itertools import pairwise

from runtime.sampling.lcm import SETTINGS, distilled_timesteps
from runtime.sampling.sampler import Sampler
from runtime.sampling.schedule import COMMON, Schedule
from runtime.sampling.tables import Step, Table, denoising_step

GAMMA = 0.3  # the share of the way to the next timestep that is noise: the paper's and diffusers' default


def _table(schedule: Schedule, steps: int) -> Table:
    placed = distilled_timesteps(schedule, steps)
    return Table(tuple(_row(schedule, *pair, last=pair[1] == 0) for pair in pairwise([*placed, 0])))


def _row(schedule: Schedule, timestep: int, following: int, last: bool) -> Step:
    below = schedule.alpha(math.floor((1 - GAMMA) * following))
    step = denoising_step(schedule.alpha(timestep), below, timestep)
    if last:
        return step
    kept = math.sqrt(schedule.alpha(following) / below)
    return Step(timestep, (kept * step.samples[0],), (kept * step.noises[0],), fresh=math.sqrt(1 - kept**2))


TCD = Sampler("tcd", "TCDScheduler", _table, {**COMMON, **SETTINGS}, {"clip_sample": False}, spaced=False)
