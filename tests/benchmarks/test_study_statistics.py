"""Intervals beside a known distribution, and beside SciPy's bootstrap."""

import numpy as np
import pytest
from scipy import stats

from benchmarks.study.statistics import LEVEL, difference, estimate

SCORES = np.random.default_rng(3).beta(2, 1, 60)


def test_an_interval_is_that_of_scipy_s_bootstrap():
    theirs = stats.bootstrap((SCORES,), np.mean, n_resamples=10_000, confidence_level=LEVEL, method="percentile", rng=0)
    ours = estimate(SCORES)
    assert ours.mean == pytest.approx(SCORES.mean()) and ours.n == 60
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.003)


def test_of_normal_numbers_it_is_1_96_standard_errors_wide():
    numbers = stats.norm(loc=2, scale=3).ppf((np.arange(400) + 0.5) / 400)  # mean 2, deviation 3
    found = estimate(numbers)
    assert found.low == pytest.approx(2 - 1.96 * 3 / 20, abs=0.02)
    assert found.high == pytest.approx(2 + 1.96 * 3 / 20, abs=0.02)


def test_it_holds_the_true_mean_95_times_in_100():
    draws = np.random.default_rng(7).uniform(size=(500, 50))
    held = np.mean([found.low <= 0.5 <= found.high for found in map(estimate, draws)])
    assert 0.91 <= held <= 0.98  # a coin of 0.95 tossed 500 times stays within this but for 1 time in 1000


def test_a_difference_is_paired():
    """Scenes differ by far more than the two modes do, and alike in both."""
    better = SCORES + 0.05 + np.random.default_rng(1).normal(0, 0.01, 60)
    found = difference(better, SCORES)
    assert found.mean == pytest.approx((better - SCORES).mean())
    assert found.excludes_zero and found.high - found.low < 0.01
    assert estimate(better).low < estimate(SCORES).high  # unpaired, nothing could be said
    assert not difference(SCORES, SCORES[::-1]).excludes_zero


def test_a_scene_without_a_number_does_not_count():
    found = estimate([0.5, np.nan, 0.7])
    assert found.n == 2 and found.mean == pytest.approx(0.6)
    nothing = estimate([np.nan])
    assert nothing.n == 0 and np.isnan(nothing.mean)
    assert nothing.as_json() == {"mean": None, "low": None, "high": None, "n": 0}
