"""Which way of drawing to take for a wanted placement, and why."""

from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.study.results import Result
from benchmarks.study.statistics import difference

SHARE_OF_SPATIAL = 0.9  # of the spatial model's placement, which is wanted where the user does not say


class Choice(NamedTuple):
    result: Result
    why: str


def wanted_placement(results: Sequence[Result]) -> float:
    spatial = next(result for result in results if result.contender.name == "spatial")
    return SHARE_OF_SPATIAL * spatial.of("in_box").mean


def best(results: Sequence[Result], placement: float) -> Result:
    """The most realistic of those that place at least so much in its boxes; if none does, the one that places most."""
    enough = _enough(results, placement)
    return max(enough, key=_realism) if enough else max(results, key=_placement)


def choose(results: Sequence[Result], placement: float) -> Choice:
    """Of those whose realism cannot be told from the best one's, the one that takes the fewest UNet rows."""
    first = best(results, placement)
    alike = [other for other in _enough(results, placement) if _alike(other, first)]
    chosen = min(alike, key=lambda other: (other.unet_rows, -_realism(other)), default=first)
    return Choice(chosen, _why(chosen, first, len(_enough(results, placement)), len(results), placement))


def _why(chosen: Result, first: Result, enough: int, count: int, placement: float) -> str:
    realism, in_box = chosen.of("realism"), chosen.of("in_box")
    measured = (
        f"realism {realism.mean:.3f} ({realism.low:.3f} to {realism.high:.3f}), in box {in_box.mean:.3f} "
        f"({in_box.low:.3f} to {in_box.high:.3f}), {chosen.unet_rows:g} UNet rows a picture, n={realism.n}"
    )
    if not enough:
        return f"no mode of {count} places {placement:.3f} of the objects in their boxes; this one most: {measured}"
    if chosen is first:
        return f"the most realistic of {enough} of {count} modes, those that place {placement:.3f} or more: {measured}"
    gap = difference(first.scores["realism"], chosen.scores["realism"])
    return (
        f"of {enough} of {count} modes, those that place {placement:.3f} or more, the cheapest whose realism cannot be "
        f"told from the best, {first.contender.name}, which has {gap.mean:.3f} more "
        f"({gap.low:+.3f} to {gap.high:+.3f}): {measured}"
    )


def _enough(results: Sequence[Result], placement: float) -> list[Result]:
    return [result for result in results if _placement(result) >= placement]


def _alike(result: Result, first: Result) -> bool:
    return not difference(first.scores["realism"], result.scores["realism"]).excludes_zero


def _realism(result: Result) -> float:
    return result.of("realism").mean


def _placement(result: Result) -> float:
    return result.of("in_box").mean
