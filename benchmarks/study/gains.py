"""Is it the balancer? What the best setting of `exact` gains over the best that do not balance, at equal work too."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.study.choice import best
from benchmarks.study.contenders import Contender
from benchmarks.study.results import Result, differences_as_json

FAMILIES = ("constant weight", "handover")
Try = Callable[[Contender], Result]


def gains(results: Sequence[Result], placement: float, draw: Try) -> list[dict[str, Any]]:
    """The best of `exact` for a wanted placement beside the best of each family at what that places: with the study's
    steps, and with as many as its UNet rows pay for. All are chosen on the same cases, which favours each a little."""
    exact = best(_of("exact", results), placement)
    return [gain for family in FAMILIES for gain in _over(family, results, exact, draw)]


def equal_work(other: Result, exact: Result) -> Contender:
    """The other with as many steps as `exact`'s UNet rows pay for, switching at the same share of them."""
    steps = int(other.steps * exact.unet_rows / other.unet_rows)
    switch = {} if other.switch_step is None else {"switch_step": round(other.switch_step * steps / other.steps)}
    contender = other.contender
    return replace(
        contender, name=f"{contender.name}, {steps} steps", knobs={**contender.knobs, **switch, "steps": steps}
    )


def _over(family: str, results: Sequence[Result], exact: Result, draw: Try) -> list[dict[str, Any]]:
    other = best(_of(family, results), exact.of("in_box").mean)
    return [
        _gain(family, work, exact, one) for work, one in (("steps", other), ("work", draw(equal_work(other, exact))))
    ]


def _of(family: str, results: Sequence[Result]) -> list[Result]:
    return [result for result in results if result.contender.family == family]


def _gain(family: str, equal: str, exact: Result, other: Result) -> dict[str, Any]:
    return {
        "of": exact.contender.name,
        "over": family,
        "best": other.contender.name,
        "equal": equal,
        "unet_rows": [round(exact.unet_rows, 2), round(other.unet_rows, 2)],
        "exact_minus": differences_as_json(exact.less(other)),
    }
