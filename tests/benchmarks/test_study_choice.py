"""Which mode is chosen for a wanted placement, of scores made by hand, and what equal work is."""

from typing import Any

import numpy as np
import pytest

from benchmarks.study.choice import best, choose, wanted_placement
from benchmarks.study.contenders import Contender, contenders
from benchmarks.study.gains import equal_work, gains
from benchmarks.study.results import Result
from runtime.spatial.controlnet import CONTROLNET
from runtime.spatial.gligen import GLIGEN

NOISE = np.random.default_rng(0).normal(0, 0.02, 40)


def made(name: str, in_box: float, realism: float, rows: float, family: str = "", **knobs: Any) -> Result:
    scores = {"object_recall": np.ones(40), "in_box": in_box + NOISE, "realism": realism + NOISE}
    contender = Contender(name, family or name, {"gradient": name, **knobs})
    return Result(contender, 20, knobs.get("switch_step"), scores, 1.0, rows)


SPATIAL = made("spatial", 0.8, 0.2, 40)
TEXT = made("text_to_image", 0.1, 0.9, 40)
EXACT = made("exact", 0.75, 0.6, 88)
HANDOVER = made("handover", 0.74, 0.7, 40, switch_step=8)
ALL = (SPATIAL, TEXT, EXACT, HANDOVER)


def test_the_most_realistic_of_those_that_place_enough():
    chosen, why = choose(ALL, 0.7)
    assert chosen is HANDOVER and "3 of 4 modes" in why and "40 UNet rows" in why and "n=40" in why
    assert choose(ALL, 0.05)[0] is TEXT
    assert choose(ALL, 0.78)[0] is SPATIAL


def test_where_none_places_enough_the_one_that_places_most():
    chosen, why = choose(ALL, 0.9)
    assert chosen is SPATIAL and why.startswith("no mode of 4 places 0.900")


def test_where_realism_cannot_be_told_apart_the_cheapest():
    noise = np.random.default_rng(1).normal(0, 0.2, 40)
    same = Result(HANDOVER.contender, 20, 8, {**EXACT.scores, "realism": 0.69 + noise - noise.mean()}, 1.0, 40)
    dear = made("exact", 0.75, 0.7, 88)
    assert best([dear, same], 0.7) is dear
    chosen, why = choose([dear, same], 0.7)
    assert chosen is same and "the cheapest" in why and "exact" in why


def test_wanted_is_nine_tenths_of_what_the_spatial_model_places():
    assert wanted_placement(ALL) == pytest.approx(0.9 * SPATIAL.scores["in_box"].mean())


def test_equal_work_is_more_steps_with_the_switch_at_the_same_share():
    contender = equal_work(HANDOVER, EXACT)  # 88 rows pay for 44 steps of 2 rows
    assert contender.knobs == {"gradient": "handover", "steps": 44, "switch_step": 18}


def test_gains_are_over_the_best_of_each_family_that_places_as_much():
    rival = made("fixed:0.2", 0.76, 0.5, 64, "constant weight", switch_step=8)
    vivid = made("fixed:0.1", 0.70, 0.9, 64, "constant weight", switch_step=8)
    drawn = []

    def draw(contender: Contender) -> Result:
        drawn.append(contender.name)
        return made(contender.mode, 0.8, 0.8, 88)

    found = gains([*ALL, rival, vivid], 0.7, draw)
    assert [(gain["best"], gain["equal"]) for gain in found][:2] == [("fixed:0.2", "steps"), ("fixed:0.2", "work")]
    assert found[0]["exact_minus"]["realism"]["mean"] == pytest.approx(0.1)
    assert found[1]["exact_minus"]["realism"]["mean"] == pytest.approx(-0.2)
    assert drawn == ["fixed:0.2, 27 steps", "handover, 44 steps"]


def test_the_table_has_what_was_asked_for():
    names = [row.name for row in contenders(GLIGEN, 20)]
    assert len(names) == len(set(names))
    modes = [row.mode for row in contenders(GLIGEN, 20)]
    assert modes.count("handover") == 5 and sum(mode.startswith("fixed:") for mode in modes) == 4
    placebos = [row for row in contenders(GLIGEN, 20) if row.change]
    assert len(placebos) == 3 and all(row.mode == "exact" for row in placebos)
    shares = [row.knobs for row in contenders(CONTROLNET, 20) if row.family == "spatial, told for a share"]
    assert [knobs["control_end"] for knobs in shares] == [0.3, 0.5, 0.7]
