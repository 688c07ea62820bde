"""Trailing and other spacings asked for by a call, against diffusers' schedulers with that spacing in their configs."""

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, PNDMScheduler

from runtime import RealCompo, RealCompoError
from runtime.sampling import SPACINGS, make_table
from tests.runtime.bundles import SCHEDULER
from tests.runtime.test_pipeline import LAYOUT, PROMPT

ORACLES: dict[str, Any] = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler, "plms": PNDMScheduler}


@pytest.mark.parametrize("steps", [1, 4, 8, 20])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("sampler", ["ddim", "euler"])
def test_timesteps_are_diffusers_own(sampler: str, spacing: str, steps: int) -> None:
    """Also where the config has a default of another scheduler's."""
    config = {name: value for name, value in SCHEDULER.items() if name != "_use_default_values"}
    scheduler = ORACLES[sampler].from_config({**config, "timestep_spacing": spacing})
    scheduler.set_timesteps(steps)
    table = make_table(sampler, steps, SCHEDULER, spacing)
    assert [row.timestep for row in table] == pytest.approx(scheduler.timesteps.tolist())


def test_a_call_draws_with_the_spacing(pipe: RealCompo) -> None:
    told: dict[str, Any] = {"layout": LAYOUT, "steps": 4, "sampler": "ddim", "gradient": "spatial"}
    seen = [step.timestep for step in pipe(PROMPT, spacing="trailing", trace=True, **told).trace]
    assert seen == [999, 749, 499, 249]
    assert not torch.allclose(pipe(PROMPT, spacing="trailing", **told).latents, pipe(PROMPT, **told).latents)


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ({"spacing": "wide"}, "spacing='wide' is unknown; use one of leading, linspace, trailing"),
        ({"spacing": "trailing", "sampler": "lcm"}, "spacing='trailing' is not for sampler='lcm'"),
    ],
)
def test_spacings_that_do_not_fit(pipe: RealCompo, told: dict[str, Any], line: str) -> None:
    with pytest.raises(RealCompoError, match=line):
        pipe(PROMPT, layout=LAYOUT, steps=4, **told)
