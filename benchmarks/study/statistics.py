"""What scenes say of all scenes like them: means, with intervals from resampled scenes (the percentile bootstrap)."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 10_000
LEVEL = 0.95
SEED = 20240218


class Estimate(NamedTuple):
    """A mean over scenes, and the interval in which 95% of the means of resampled scenes lie."""

    mean: float
    low: float
    high: float
    n: int  # scenes

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0

    def as_json(self) -> dict[str, float | int | None]:
        """None where there is no scene, for JSON has no NaN."""
        figures = {"mean": self.mean, "low": self.low, "high": self.high}
        return {**{name: round(one, 4) if self.n else None for name, one in figures.items()}, "n": self.n}


def estimate(values: ArrayLike) -> Estimate:
    """Of one number a scene; NaN is a scene that has none."""
    given = np.asarray(values, np.float64)
    known = given[~np.isnan(given)]
    if not len(known):
        return Estimate(np.nan, np.nan, np.nan, 0)
    low, high = np.quantile(_resampling(len(known)) @ known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(known.mean()), float(low), float(high), len(known))


def difference(values: ArrayLike, others: ArrayLike) -> Estimate:
    """Of two numbers a scene, the first less the second: paired, for both are of the same scene and noise."""
    return estimate(np.asarray(values, np.float64) - np.asarray(others, np.float64))


@lru_cache(maxsize=16)
def _resampling(n: int) -> NDArray[np.float64]:
    """(RESAMPLES,n): how much each of n scenes weighs in each resample; the same for all that is compared."""
    return np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), RESAMPLES) / n
