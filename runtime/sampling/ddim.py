"""DDIM with eta 0 (Song et al., arXiv 2010.02502)."""

from runtime.sampling.sampler import Sampler
from runtime.sampling.schedule import COMMON, Schedule, timesteps
from runtime.sampling.tables import Table, denoising_step


def _table(schedule: Schedule, steps: int) -> Table:
    jump = schedule.trained // steps
    return Table(
        tuple(
            denoising_step(schedule.alpha(timestep), schedule.alpha(timestep - jump), timestep)
            for timestep in timesteps(schedule, steps)
        )
    )


# Latents are never clipped: where a config is silent diffusers' scheduler would, but its pipelines tell it not to
DDIM = Sampler("ddim", "DDIMScheduler", _table, {**COMMON, "set_alpha_to_one": True}, {"clip_sample": False})
