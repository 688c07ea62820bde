"""The simulation of queueing against what theory says where it says it, and the command."""

import json
import math
import random
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.capacity.curve import between, curve_of
from benchmarks.capacity.measure import Wanted, fewest, plan, try_out
from benchmarks.capacity.simulate import Fleet, simulate
from runtime.errors import RealCompoError

CURVE = {1: 1.0, 2: 1.2, 8: 2.4}


def wanted(**changes: Any) -> Wanted:
    return Wanted(**{"loads": (1.0,), "within": 5.0, "window": 0.0, "requests": 4000, "gpu_hour": None} | changes)


@pytest.mark.parametrize("busy", [0.3, 0.6, 0.8])
def test_one_at_a_time_waits_as_pollaczek_and_khinchine_say(busy: float) -> None:
    """M/D/1: the mean wait is busy / (2 (1 - busy)) of a run."""
    found = simulate(Fleet(lambda images: 2.0, 1, most_images=1, window=0.0), busy / 2, 200_000)
    assert fmean(found.waits) == pytest.approx(2 * busy / (2 * (1 - busy)), rel=0.05)
    assert found.busy == pytest.approx(busy, rel=0.02)
    assert set(found.batches) == {1}


def test_several_lines_of_which_one_is_drawn_by_chance_are_as_many_queues() -> None:
    found = simulate(Fleet(lambda images: 1.0, 5, most_images=1, window=0.0, choices=1), 5 * 0.7, 200_000)
    assert fmean(found.waits) == pytest.approx(0.7 / (2 * 0.3), rel=0.05)


@pytest.mark.parametrize("rate", [0.2, 1.0, 5.0])
def test_runs_without_a_limit_wait_as_renewal_theory_says(rate: float) -> None:
    """A run of one second takes all who wait. Who comes in a run waits for half of it on average; a run is followed by
    an idle time, of 1 / rate on average, if nobody came meanwhile: with probability exp(-rate)."""
    found = simulate(Fleet(lambda images: 1.0, 1, most_images=10_000, window=0.0), rate, 100_000)
    busy = 1 / (1 + math.exp(-rate) / rate)
    assert found.busy == pytest.approx(busy, rel=0.02)
    assert fmean(found.waits) == pytest.approx(busy / 2, rel=0.03)


def test_the_shorter_of_two_lines_is_as_much_better_as_mitzenmacher_found() -> None:
    """Exponential runs of mean 1, many replicas, 0.7 of what they can draw: the mean time of the power of two choices
    is the sum over i >= 1 of 0.7 ** (2 ** i - 2) (IEEE TPDS 12(10), 2001, theorem 2)."""
    chance = random.Random(1)
    fleet = Fleet(lambda images: chance.expovariate(1.0), 200, most_images=1, window=0.0)
    found = simulate(fleet, 0.7 * 200, 100_000)
    assert fmean(found.latencies) == pytest.approx(sum(0.7 ** (2**i - 2) for i in range(1, 8)), rel=0.03)


def test_a_window_fills_runs_but_keeps_nobody_whom_none_joins() -> None:
    """After a run of one, one is all that is expected."""
    alone = simulate(Fleet(lambda images: 1e-6, 1, most_images=8, window=0.2), 0.05, 1000)
    assert max(alone.waits) == pytest.approx(0, abs=1e-5)
    with_it, without = (simulate(Fleet(lambda images: 1.0, 1, 8, window), 3.0, 20_000) for window in (0.3, 0.0))
    assert fmean(with_it.batches) > fmean(without.batches)


def test_a_run_is_never_larger_than_is_allowed() -> None:
    found = simulate(Fleet(between(CURVE), 2, most_images=8), 6.0, 20_000)
    assert max(found.batches) == 8
    assert sum(found.batches) == 20_000


def test_no_fewer_replicas_do() -> None:
    settings = wanted(within=3.0)
    for load in (0.5, 3.0, 20.0):
        replicas = fewest(CURVE, settings, load)
        assert replicas > load / (8 / 2.4)
        assert try_out(CURVE, settings, load, replicas).summary()["p95"] <= 3.0
        if replicas > 1:
            assert try_out(CURVE, settings, load, replicas - 1).summary()["p95"] > 3.0


def test_the_cost_is_that_of_the_replicas_hours() -> None:
    (row,) = plan(CURVE, wanted(loads=(20.0,), gpu_hour=3.6))["rows"]
    assert row["cost_of_1000"] == pytest.approx(row["replicas"] * 3.6 / 3600 * 1000 / 20)
    assert plan(CURVE, wanted())["rows"][0]["cost_of_1000"] is None


def test_too_little_time_is_said() -> None:
    with pytest.raises(RealCompoError, match=r"--within 0\.5 is less than the 1 s of a picture drawn alone"):
        plan(CURVE, wanted(within=0.5))


def test_the_curve_of_a_served_bundle() -> None:
    served = {
        "benchmark": "serving",
        "settings": {"max_batch": 8},
        "lone": {"library_seconds": 0.5},
        "saturated": {"library_throughput": 4.0},
    }
    assert curve_of(served) == {1: 0.5, 8: 2.0}


def invoke(*options: str) -> Any:
    return CliRunner().invoke(app, ["capacity", *options])


def test_the_command_reads_its_own_curve(tmp_path: Path) -> None:
    file, out = tmp_path / "curve.json", tmp_path / "again.json"
    file.write_text(json.dumps({"benchmark": "capacity", "curve": CURVE}))
    options = ("--load", "2", "--load", "8", "--within", "4", "--requests", "2000")
    done = invoke("--curve", str(file), *options, "--gpu-hour", "2", "--json", str(out))
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.splitlines()[-1])
    assert [row["load"] for row in found["rows"]] == [2, 8] and "cost of 1,000" in done.stdout
    again = invoke("--curve", str(out), *options, "--gpu-hour", "2")
    assert json.loads(again.stdout.splitlines()[-1])["rows"] == found["rows"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "give a bundle, or --curve"),
        (("--curve", "nowhere.json"), "nowhere.json has no curve"),
    ],
)
def test_what_the_command_wants(options: tuple[str, ...], message: str) -> None:
    done = invoke(*options, "--load", "1", "--within", "4")
    assert done.exit_code == 2 and message in done.stderr


def test_the_command_measures_a_bundle(tabletop_bundle: Path) -> None:
    options = ("--steps", "1", "--max-batch", "3", "--load", "0.01", "--within", "600", "--requests", "200")
    done = invoke(str(tabletop_bundle), *options)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found["curve"]) == {"1", "2", "3"} and min(found["curve"].values()) > 0
    assert found["rows"][0]["replicas"] == 1
