"""The study: maps first, then every contender on the same cases from the same noise, then what follows from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmarks.gradients.measure import open_eager
from benchmarks.study.choice import choose, wanted_placement
from benchmarks.study.contenders import EXACT, PLACEBO, Contender, contenders
from benchmarks.study.drawing import Studio
from benchmarks.study.gains import FAMILIES, Try, gains
from benchmarks.study.looking import MEAN, WATCHED, Look, in_each_layer, in_noised_pictures, open_vae, while_drawing
from benchmarks.study.results import Result, differences_as_json, score, scores_as_json
from benchmarks.study.scorers import Scorer
from runtime.spatial import kind_of
from runtime.words import MODELS

FIRST = 24  # cases that are watched while they are drawn


class Progress(Protocol):
    """Told what is at work."""

    def begin(self, what: str) -> None: ...

    def advance(self, pictures: int) -> None: ...


@dataclass(frozen=True)
class Study:
    """What was found."""

    looks: Sequence[Look]
    results: Sequence[Result]  # of all contenders but placebos
    placebos: Sequence[Result]
    gains: list[dict[str, Any]]
    recommended: dict[str, Any]


def study(
    bundle: Path, studio: Studio, scorer: Scorer, placement: float | None, layers: bool, progress: Progress
) -> Study:
    """All of it.

    Args:
        placement: the share of objects in their boxes that is wanted; None is 0.9 of what the spatial model reaches.
        layers: also tell the map layers apart.
    """
    looks = _look(bundle, studio, scorer, layers, progress)

    draw = scored(studio, scorer, progress)
    drawn = [draw(row) for row in _rows(studio)]
    results = [result for result in drawn if result.contender.family != PLACEBO]
    wanted = wanted_placement(results) if placement is None else placement
    return Study(
        looks,
        results,
        [result for result in drawn if result.contender.family == PLACEBO],
        gains(results, wanted, draw),
        _recommend(studio, results, wanted),
    )


def scored(studio: Studio, scorer: Scorer, progress: Progress) -> Try:
    """What draws a contender and scores its pictures."""

    def draw(contender: Contender) -> Result:
        progress.begin(contender.name)
        return score(studio, contender, studio.draw(contender, progress.advance), scorer)

    return draw


def pictures_of(studio: Studio, layers: bool) -> int:
    """How many pictures a study looks at and draws."""
    cases, watched = len(studio.cases), len(studio.first(FIRST).cases)
    return cases + (len(WATCHED) + layers) * watched + (len(_rows(studio)) + len(FAMILIES)) * cases


def as_json(found: Study, studio: Studio) -> dict[str, Any]:
    """The fields of the result."""
    exact = next(result for result in found.results if result.contender is EXACT)
    none = next(result for result in found.results if result.contender.name == "none")
    return {
        "n": len(studio.cases),
        **studio.sampling.knobs(),
        "lift": _lift(found.looks),
        "rows": [result.as_row(studio.cases) for result in found.results],
        "placebo": {
            "exact": scores_as_json(exact.scores),
            **{result.contender.change or "no updates": _placebo(result, exact) for result in (none, *found.placebos)},
        },
        "gains": found.gains,
        "recommended": found.recommended,
        "maps": [look.as_json() for look in found.looks],
    }


def _rows(studio: Studio) -> list[Contender]:
    return contenders(kind_of(studio.pipe.manifest), studio.sampling.steps)


def _look(bundle: Path, studio: Studio, scorer: Scorer, layers: bool, progress: Progress) -> list[Look]:
    looks, first = list[Look](), studio.first(FIRST)
    vae = open_vae(studio.pipe, bundle)
    if vae and all(case.pictures for case in studio.cases):
        progress.begin("maps of noised pictures")
        looks += in_noised_pictures(studio, vae, progress.advance)
        if layers:
            progress.begin("maps of each layer")
            looks += in_each_layer(first, vae, open_eager(bundle, studio.pipe.manifest), progress.advance)
    watched = [Contender(name, "watched", {"gradient": name}) for name in WATCHED]
    progress.begin("maps while drawing")
    return looks + while_drawing(first, watched, scorer, progress.advance)


def _lift(looks: Sequence[Look]) -> dict[str, dict[str, float]]:
    """Of each model in noised pictures, by timestep."""
    noised = [look for look in looks if look.source == "noised" and look.layer == MEAN]
    return {m: {f"{look.timestep:g}": round(look.lift.mean, 3) for look in noised if look.of == m} for m in MODELS}


def _placebo(result: Result, exact: Result) -> dict[str, Any]:
    return {**scores_as_json(result.scores), "exact_minus": differences_as_json(exact.less(result))}


def _recommend(studio: Studio, results: Sequence[Result], placement: float) -> dict[str, Any]:
    result, why = choose(results, placement)
    switch = {} if result.switch_step is None else {"switch_step": result.switch_step}
    knobs = {**studio.sampling.knobs(), **switch, **result.contender.knobs}
    return {
        "mode": result.contender.mode,
        "name": result.contender.name,
        "why": why,
        "placement": round(placement, 4),
        "knobs": knobs,
    }
