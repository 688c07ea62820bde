"""DPM-Solver++(2M), midpoint (Lu et al., arXiv 2211.01095)."""

import math
from collections.abc import Sequence

from runtime.sampling.sampler import Sampler
from runtime.sampling.schedule import COMMON, Schedule, timesteps
from runtime.sampling.tables import Step, Table, denoising_step

ONLY = {
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
}
FIRST_ORDER_END = 15  # with fewer steps the last one is of first order


def _table(schedule: Schedule, steps: int) -> Table:
    """First order at the first row and, where diffusers does so, at the last."""
    placed = timesteps(schedule, steps, spare=1)
    ends_clean = schedule.settings["final_sigmas_type"] == "zero"
    alphas = [*map(schedule.alpha, placed), 1.0 if ends_clean else schedule.alpha(0)]
    first_order = {0, steps - 1} if ends_clean or steps < FIRST_ORDER_END else {0}
    return Table(tuple(_row(alphas, i, placed[i], i in first_order) for i in range(steps)))


def _row(alphas: Sequence[float], i: int, timestep: int, first_order: bool) -> Step:
    if first_order:
        return denoising_step(alphas[i], alphas[i + 1], timestep)
    return _second_order_step(alphas[i - 1], alphas[i], alphas[i + 1], timestep)


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


DPMPP_2M = Sampler(
    "dpm++2m",
    "DPMSolverMultistepScheduler",
    _table,
    {**COMMON, **ONLY, "timestep_spacing": "linspace", "final_sigmas_type": "zero", "set_alpha_to_one": True},
    ONLY,
)
