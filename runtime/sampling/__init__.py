"""Samplers: one file and one row of `SAMPLERS` each."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from runtime.errors import RealCompoError
from runtime.sampling.ddim import DDIM
from runtime.sampling.dpmpp_2m import DPMPP_2M
from runtime.sampling.euler import EULER
from runtime.sampling.lcm import LCM
from runtime.sampling.plms import PLMS
from runtime.sampling.sampler import Sampler
from runtime.sampling.schedule import Schedule, inherited, read_schedule
from runtime.sampling.tables import Step, Table, denoising_step
from runtime.sampling.tcd import TCD

SAMPLERS: dict[str, Sampler] = {sampler.name: sampler for sampler in (DDIM, PLMS, DPMPP_2M, EULER, LCM, TCD)}


SPACINGS = ("leading", "linspace", "trailing")


def make_table(sampler: str, steps: int, config: Mapping[str, Any], spacing: str | None = None) -> Table:
    """The rows of a run: `steps` of them, or one more where a sampler's first step evaluates twice, as PLMS's does.

    Args:
        sampler: a name in `SAMPLERS`.
        steps: 1 to the number of training timesteps.
        config: a diffusers scheduler config.
        spacing: of the timesteps, one of `SPACINGS`; None: the config's, or what the sampler has where it is silent.

    Raises:
        RealCompoError: an unknown sampler, a config that no linear table can carry out, too few or many steps, or a
            spacing for a sampler whose timesteps have none.
    """
    if sampler not in SAMPLERS:
        raise RealCompoError(f"sampler={sampler!r} is unknown; use one of {', '.join(SAMPLERS)}")
    row = SAMPLERS[sampler]
    if spacing and not row.spaced:
        raise RealCompoError(
            f"spacing={spacing!r} is not for sampler={sampler!r}, which has timesteps of its own; give another "
            "sampler, or no spacing"
        )
    schedule = read_schedule(_spaced(config, spacing), row.scheduler, row.defaults, row.only)
    if not 1 <= steps <= schedule.trained:
        raise RealCompoError(f"steps={steps} is out of range; use 1 to {schedule.trained}, the training timesteps")
    return _with_trials(schedule, row.table(schedule, steps))


def _spaced(config: Mapping[str, Any], spacing: str | None) -> Mapping[str, Any]:
    """The config with another spacing, as a value of its own and no default of its scheduler's."""
    if spacing is None:
        return config
    others = [name for name in inherited(config) if name != "timestep_spacing"]
    return {**config, "timestep_spacing": spacing, "_use_default_values": others}


def unable(config: Mapping[str, Any]) -> dict[str, str]:
    """The samplers that cannot draw with a scheduler config, and why."""
    found: dict[str, str] = {}
    for name in SAMPLERS:
        try:
            make_table(name, 1, config)
        except RealCompoError as error:
            found[name] = str(error)
    return found


def _with_trials(schedule: Schedule, table: Table) -> Table:
    timesteps = sorted({row.timestep for row in table}, reverse=True)
    alphas = [*map(schedule.alpha, timesteps), schedule.final_alpha]
    following = dict(zip(timesteps, alphas[1:], strict=True))

    def trial(row: Step) -> tuple[float, float]:
        step = denoising_step(schedule.alpha(row.timestep), following[row.timestep], row.timestep)
        return step.samples[0], step.noises[0]

    return replace(table, rows=tuple(row._replace(trial=trial(row)) for row in table))
