"""What was found of one contender, and of two."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.study.cases import Case
from benchmarks.study.contenders import Contender
from benchmarks.study.drawing import Drawn, Studio
from benchmarks.study.scorers import SCORES, Scorer, judge
from benchmarks.study.statistics import Estimate, difference, estimate

DIGITS = 4
Group = Callable[[Case], object]
GROUPS: dict[str, Group] = {"category": lambda case: case.category, "objects": lambda case: case.objects}


@dataclass(frozen=True)
class Result:
    """A contender's scores, one a case, and what a picture took."""

    contender: Contender
    steps: int
    switch_step: int | None  # None of one model alone
    scores: Mapping[str, NDArray[np.float64]]  # (n,) each
    seconds: float
    unet_rows: float

    def of(self, score: str) -> Estimate:
        return estimate(self.scores[score])

    def less(self, other: "Result") -> dict[str, Estimate]:
        """By how much this one's scores are above the other's, paired by case."""
        return {name: difference(values, other.scores[name]) for name, values in self.scores.items()}

    def as_row(self, cases: Sequence[Case]) -> dict[str, Any]:
        return {
            "mode": self.contender.mode,
            "name": self.contender.name,
            "family": self.contender.family,
            "options": dict(self.contender.knobs),
            "steps": self.steps,
            "switch_step": self.switch_step,
            **scores_as_json(self.scores),
            "seconds": round(self.seconds, DIGITS),
            "unet_rows": round(self.unet_rows, DIGITS),
            "by": {name: self._by(group, cases) for name, group in GROUPS.items()},
        }

    def _by(self, group: Group, cases: Sequence[Case]) -> dict[str, Any]:
        """Scores of each group of cases."""
        groups = [group(case) for case in cases]
        names = sorted({str(name) for name in groups if name is not None})
        which = {name: np.asarray([str(own) == name for own in groups]) for name in names}
        return {
            name: scores_as_json({score: values[mask] for score, values in self.scores.items() if score in SCORES})
            for name, mask in which.items()
        }


def scores_as_json(scores: Mapping[str, NDArray[np.float64]]) -> dict[str, Any]:
    """Means, their intervals, and of how many cases they are."""
    found = {name: estimate(values) for name, values in scores.items()}
    return {
        "n": next(iter(found.values())).n,
        **{name: round(one.mean, DIGITS) for name, one in found.items()},
        "intervals": {name: [round(one.low, DIGITS), round(one.high, DIGITS)] for name, one in found.items()},
    }


def differences_as_json(found: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: one.as_json() for name, one in found.items() if name in SCORES}


def score(studio: Studio, contender: Contender, drawn: Drawn, scorer: Scorer) -> Result:
    """Judge a contender's pictures."""
    pairs = zip(drawn.images(), studio.cases, strict=True)
    judged = [judge(scorer, image, case.layout) for image, case in pairs]
    return Result(
        contender,
        studio.steps(contender),
        studio.switch_step(contender),
        {name: np.asarray([one[name] for one in judged]) for name in judged[0]},
        drawn.seconds,
        studio.unet_rows(drawn),
    )
