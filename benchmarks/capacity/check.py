"""A server under load, beside a simulation that is told how long its runs took: only the queueing is simulated."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from statistics import fmean, median
from typing import Any

from benchmarks.capacity.curve import Curve, between
from benchmarks.capacity.simulate import Fleet, simulate
from benchmarks.serving.load import Clients, Reply
from benchmarks.serving.measure import BOXES, PROMPT, SEEDS, summary
from benchmarks.serving.process import PATIENCE
from runtime.errors import RealCompoError

REQUESTS = 50_000  # of a simulation


@dataclass(frozen=True)
class Offered:
    address: str  # HOST:PORT
    replicas: int
    loads: Sequence[float]  # requests a second
    seconds: float  # of each
    steps: int
    most_images: int
    window: float

    def connect(self) -> HTTPConnection:
        return HTTPConnection(self.address, timeout=PATIENCE)


def check(offered: Offered, report: Callable[[str], None]) -> dict[str, Any]:
    """The fields of the JSON result.

    Raises:
        RealCompoError: nothing was drawn.
    """
    regions = [{"phrase": phrase, "box": box} for phrase, box in BOXES.items()]
    body = {"prompt": PROMPT, "layout": {"regions": regions}, "num_inference_steps": offered.steps}
    clients = Clients(offered, body, SEEDS)
    measured = []
    for load in offered.loads:
        report(f"{load:g} requests a second for {offered.seconds:g} s")
        measured.append(clients.at_rate(load, offered.seconds))
    curve = curve_of_replies([reply for replies in measured for reply in replies])
    rows = [_row(offered, curve, *pair) for pair in zip(offered.loads, measured, strict=True)]
    return {
        "curve": {str(size): seconds for size, seconds in curve.items()},
        "checked": rows,
        "offered": _told(offered),
    }


def curve_of_replies(replies: Sequence[Reply]) -> Curve:
    """Median seconds of runs by their number of images, as the server's answers say.

    Raises:
        RealCompoError: nothing was drawn.
    """
    runs = defaultdict[int, list[float]](list)
    for reply in replies:
        if reply.status == 200:
            runs[reply.batch].append(reply.run)
    if not runs:
        raise RealCompoError("the server drew nothing: see that --server's address is right and its bundle draws")
    return {size: median(seconds) for size, seconds in runs.items()}


def _row(offered: Offered, curve: Curve, load: float, replies: Sequence[Reply]) -> dict[str, Any]:
    fleet = Fleet(between(curve), offered.replicas, min(offered.most_images, max(curve)), offered.window)
    outside = [reply.seconds - reply.run for reply in replies if reply.status == 200]
    return {
        "load": load,
        "measured": summary(replies) | {"mean_outside_run": fmean(outside)},
        "simulated": simulate(fleet, load, REQUESTS).summary(),
    }


def _told(offered: Offered) -> dict[str, Any]:
    return {"replicas": offered.replicas, "seconds": offered.seconds}
