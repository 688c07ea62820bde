"""Knobs: what is no value of theirs is refused in one line, and shares of a run are counted exactly."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from runtime import RealCompo, RealCompoError
from runtime.options import Options
from runtime.sampling import make_table
from runtime.spatial.controlnet import CONTROLNET
from runtime.spatial.gligen import GLIGEN
from tests.runtime.bundles import SCHEDULER
from tests.runtime.test_pipeline import LAYOUT, PROMPT

WRONG = [
    ({"guidance_interval": 0.5}, "guidance_interval=0.5 is of the wrong type; give 2 numbers"),
    ({"guidance_interval": None}, "guidance_interval=None is of the wrong type; give 2 numbers"),
    ({"guidance_interval": ("0", "1")}, r"guidance_interval=\('0', '1'\) is of the wrong type; give 2 numbers"),
    ({"guidance_interval": "01"}, "guidance_interval='01' is of the wrong type"),
    ({"guidance_interval": (0, 0.5, 1)}, "is no interval; give its start and its end"),
    ({"steps": "4"}, "steps='4' is of the wrong type; give a whole number"),
    ({"steps": 4.0}, "steps=4.0 is of the wrong type"),
    ({"steps": True}, "steps=True is of the wrong type"),
    ({"steps": [1] * 1000}, "steps=.*….* is of the wrong type"),
    ({"sampler": None}, "sampler=None is of the wrong type; give a word"),
    ({"gradient": None}, "gradient=None is of the wrong type; give a word"),
    ({"guidance_scale": None}, "guidance_scale=None is of the wrong type; give a number"),
    ({"spacing": 3}, "spacing=3 is of the wrong type; give a word or none"),
    ({"form": ["paper"]}, "form=.* is of the wrong type; give a word"),
    ({"trial_guidance": "no"}, "trial_guidance='no' is of the wrong type; give true or false"),
    ({"gradient_from": 3}, "gradient_from=3 is of the wrong type; give several, each a name"),
    ({"gradient_from": "spatial"}, "gradient_from=.* does not name models"),
    ({"grounding_fraction": "all"}, "grounding_fraction='all' is of the wrong type; give a number"),
]


@pytest.mark.parametrize(("told", "line"), WRONG, ids=lambda value: str(value)[:40])
def test_a_value_of_the_wrong_type(pipe: RealCompo, told: dict[str, Any], line: str) -> None:
    with pytest.raises(RealCompoError, match=line) as found:
        pipe(PROMPT, layout=LAYOUT, **{"steps": 2, **told})
    assert len(str(found.value)) < 200


def test_numbers_of_other_libraries_are_numbers() -> None:
    Options(steps=np.int64(3), guidance_scale=np.float32(2), guidance_interval=[0, np.float64(0.5)])
    GLIGEN.strengths(grounding_fraction=1)
    CONTROLNET.strengths(control_scale=[1, 0.5], control_start=np.float32(0.25))


@pytest.mark.parametrize("sampler", ["ddim", "plms"])
@pytest.mark.parametrize("steps", [3, 7, 20, 50, 100])
def test_shares_of_a_run_are_counted_as_in_rational_numbers(sampler: str, steps: int) -> None:
    """0.14 of 50 is 7, though not in floating point."""
    table = make_table(sampler, steps, SCHEDULER)
    for percent in range(101):
        share = f"{percent / 100:.2f}"
        wanted = [i < Fraction(share) * len(table) for i in range(len(table))]
        for interval, guided in (((0.0, float(share)), wanted), ((float(share), 1.0), [not one for one in wanted])):
            works = Options(steps=steps, sampler=sampler, guidance_interval=interval).works(table, 0)
            assert [work.guided for work in works] == guided
