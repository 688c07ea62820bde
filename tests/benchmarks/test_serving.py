"""The benchmark of serving: what it makes of replies, and a short run of all of it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.serving.load import LOST, Reply
from benchmarks.serving.measure import steady_throughput, summary


def test_summary_counts_every_reply_once() -> None:
    drawn = [Reply(0, 200, seconds=k, batch=1 + k % 2) for k in range(101)]
    found = summary([*drawn, Reply(0, 429, 0.1), Reply(0, 429, 0.1), Reply(0, LOST, 1.0), Reply(0, 504, 1.0)])
    assert (found["requests"], found["drawn"], found["refused"], found["lost"], found["others"]) == (105, 101, 2, 1, 1)
    assert (found["p50"], found["p95"], found["p99"]) == (50, 95, 99)  # of 0 to 100
    assert found["mean_batch"] == pytest.approx((51 * 1 + 50 * 2) / 101)


def test_steady_throughput_leaves_out_the_first() -> None:
    """One alone after 10 s, then 8 every 2 s: four a second."""
    ends = [10.0, *(12.0 + 2 * (k // 8) for k in range(80))]
    replies = [Reply(0, 200, 1.0, ended) for ended in ends]
    assert steady_throughput(replies, 9) == pytest.approx(72 / 18)


@pytest.mark.slow
def test_a_short_run(tabletop_bundle: Path) -> None:
    options = ["--steps", "2", "--rounds", "1", "--seconds", "2", "--overload", "4", "--soak", "30"]
    done = CliRunner().invoke(app, ["serving", str(tabletop_bundle), *options])
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["overload"]["wrong"] == found["overload"]["lost"] == found["overload"]["others"] == 0
    assert found["overload"]["drawn"] > 0 and found["overload"]["recovered"]
    soak = found["soak"]
    assert soak["queue_length"] == soak["drawing_images"] == soak["others"] == 0
    assert found["exit_code"] == 0
