"""Draw the cheap modes and all trials, and take from each trial what the cheap modes give at what it places."""

from collections.abc import Sequence
from typing import Any

from benchmarks.balancing.trials import CHEAP_SWITCHES, TRIALS
from benchmarks.study.choice import best
from benchmarks.study.contenders import WEIGHTS, Contender, handing_over
from benchmarks.study.drawing import Studio
from benchmarks.study.measure import Progress, scored
from benchmarks.study.results import Result, differences_as_json
from benchmarks.study.scorers import Scorer
from benchmarks.study.statistics import Estimate


def measure(studio: Studio, scorer: Scorer, progress: Progress) -> dict[str, Any]:
    """The fields of the result."""
    draw = scored(studio, scorer, progress)
    cheap = [draw(contender) for contender in cheap_modes(studio.sampling.steps)]
    tried = [draw(trial.contender(studio.sampling.steps)) for trial in TRIALS]
    return {
        "n": len(studio.cases),
        **studio.sampling.knobs(),
        "cheap": [result.as_row(studio.cases) for result in cheap],
        "trials": [
            result.as_row(studio.cases) | {"prediction": trial.prediction} | beside(result, cheap)
            for trial, result in zip(TRIALS, tried, strict=True)
        ],
    }


def cheap_modes(steps: int) -> list[Contender]:
    """Handing over at several switches, and constant weights from the trials' switch on."""
    weights = [
        Contender(f"fixed:{weight:g} from {(switch := round(CHEAP_SWITCHES[0] * steps))}", "constant weight",
                  {"gradient": f"fixed:{weight:g}", "switch_step": switch})
        for weight in WEIGHTS
    ]  # fmt: skip
    return [*(handing_over(share, steps) for share in CHEAP_SWITCHES), *weights]


def beside(trial: Result, cheap: Sequence[Result]) -> dict[str, Any]:
    """The most realistic cheap mode that places as much as the trial, and what the trial has more than it."""
    other = best(cheap, trial.of("in_box").mean)
    gap = trial.less(other)
    return {"beside": other.contender.name, "minus": differences_as_json(gap), "beats": beats(gap)}


def beats(gap: dict[str, Estimate]) -> bool:
    """Better in one of placement and realism beyond chance, and not worse in the other beyond chance."""
    wanted = [gap["in_box"], gap["realism"]]
    return any(one.low > 0 for one in wanted) and all(one.high >= 0 for one in wanted)


def pictures_of(studio: Studio) -> int:
    return (len(cheap_modes(studio.sampling.steps)) + len(TRIALS)) * len(studio.cases)
