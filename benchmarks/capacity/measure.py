"""The fewest replicas that answer a load in time."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.capacity.curve import Curve, between
from benchmarks.capacity.simulate import Fleet, Outcome, simulate
from runtime.errors import RealCompoError

PERCENTILE = "p95"
MOST_REPLICAS = 100_000
EACH = 50  # requests of a simulation for each replica, at least


@dataclass(frozen=True)
class Wanted:
    loads: Sequence[float]  # requests a second, for one image each
    within: float  # seconds that 95% of them may take
    window: float  # `--batch-window` in seconds
    requests: int  # of a simulation
    gpu_hour: float | None  # price of a replica's GPU


def plan(curve: Curve, wanted: Wanted, report: Callable[[str], None] = lambda what: None) -> dict[str, Any]:
    """The fields of the JSON result.

    Raises:
        RealCompoError: a run alone takes too long.
    """
    fastest = curve[min(curve)]
    if fastest > wanted.within:
        raise RealCompoError(
            f"--within {wanted.within:g} is less than the {fastest:.3g} s of a picture drawn alone: no number of "
            "replicas does that; give more, or measure with fewer --steps"
        )
    rows = []
    for load in wanted.loads:
        report(f"{load:g} requests a second")
        rows.append(_row(curve, wanted, load))
    return {"curve": {str(size): seconds for size, seconds in curve.items()}, "rows": rows, **asdict(wanted)}


def _row(curve: Curve, wanted: Wanted, load: float) -> dict[str, Any]:
    replicas = fewest(curve, wanted, load)
    found = try_out(curve, wanted, load, replicas).summary()
    price = wanted.gpu_hour
    cost = None if price is None else 1000 * price * replicas / (3600 * load)
    return {"load": load, "replicas": replicas, **found, "cost_of_1000": cost}


def fewest(curve: Curve, wanted: Wanted, load: float) -> int:
    """By halving between what cannot keep up and what can.

    Raises:
        RealCompoError: too many.
    """
    most = max(size / seconds for size, seconds in curve.items())
    low, step = int(load / most), 1  # too few: more comes than can be drawn
    while not _in_time(curve, wanted, load, high := low + step):
        low, step = high, 2 * step
        if high > MOST_REPLICAS:
            raise RealCompoError(
                f"--load {load:g} takes over {MOST_REPLICAS} replicas to answer within {wanted.within:g} s; give "
                "--within more"
            )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _in_time(curve, wanted, load, middle) else (middle, high)
    return high


def try_out(curve: Curve, wanted: Wanted, load: float, replicas: int) -> Outcome:
    fleet = Fleet(between(curve), replicas, max(curve), wanted.window)
    return simulate(fleet, load, max(wanted.requests, EACH * replicas))


def _in_time(curve: Curve, wanted: Wanted, load: float, replicas: int) -> bool:
    return try_out(curve, wanted, load, replicas).summary()[PERCENTILE] <= wanted.within
