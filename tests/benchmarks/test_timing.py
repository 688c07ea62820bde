"""Statistics against numpy and the standard library, the order of turns, and the parts of a sample."""

import statistics

import numpy as np
import pytest

from benchmarks.latency.contenders import Contender
from benchmarks.latency.measure import interleave
from benchmarks.latency.timing import Sample, paired_ratios, percentiles, spread

TIMES = np.random.default_rng(3).gamma(4, size=23).tolist()


def test_percentiles_and_quartiles():
    cuts = statistics.quantiles(TIMES, n=100, method="inclusive")
    found = percentiles(TIMES)
    assert (found.p50, found.p95, found.p99) == pytest.approx((cuts[49], cuts[94], cuts[98]))
    assert (spread(TIMES).low, spread(TIMES).median, spread(TIMES).high) == pytest.approx(
        tuple(statistics.quantiles(TIMES, n=4, method="inclusive"))
    )


def test_a_single_image_is_all_percentiles():
    assert set(vars(percentiles([0.4])).values()) == {0.4}


def test_ratios_are_of_rounds_and_not_of_medians():
    """The second round hit a slow moment, in both alike."""
    found = paired_ratios({"a": [2.0, 30.0, 4.0], "b": [1.0, 10.0, 1.0]})
    np.testing.assert_allclose([found["a", "b"].median, found["a", "b"].low, found["a", "b"].high], [3, 2.5, 3.5])
    assert found["b", "a"].median == pytest.approx(1 / 3)


def test_one_with_fewer_rounds_is_compared_in_those():
    found = paired_ratios({"slow": [8.0], "fast": [2.0, 100.0]})
    assert found["slow", "fast"].median == 4


def contender(name: str, most_rounds: int | None = None) -> Contender:
    return Contender(name, "", load=lambda target: pytest.fail("nothing is to be loaded"), most_rounds=most_rounds)


def test_everyone_draws_once_a_round_and_starts_in_turn():
    order = [one.name for one in interleave([contender("a"), contender("b"), contender("c", most_rounds=1)], 4)]
    assert order == ["a", "b", "c", "b", "a", "a", "b", "a", "b"]


def test_between_engines_is_what_denoising_leaves():
    calls = {"text_encoder": 0.2, "text_to_image": 0.6, "spatial": 0.9, "spatial_gradient": 0.5}
    sample = Sample(2.0, {"text": 0.3, "denoise": 1.5}, calls, {"text": 0.2, "denoise": 1.4}, 21)
    assert sample.between_engines == pytest.approx(0.1)
