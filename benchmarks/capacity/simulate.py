"""Requests that come by chance, and replicas that join them as a server's line does."""

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np

from runtime.serving.line import is_due

Seconds = Callable[[int], float]  # of a run of so many images
CHOICES = 2  # replicas that Ray compares for a request
DISCARDED = 0.1  # of the requests, the first: replicas are idle when they come


@dataclass(frozen=True)
class Fleet:
    """Replicas of a server. Each request is for one image, and all can share runs.

    Args:
        seconds: of a run, by its number of images.
        window: seconds for which a run waits, `--batch-window`.
        choices: a request goes to the one of so many replicas, drawn by chance, that has the fewest.
    """

    seconds: Seconds
    replicas: int
    most_images: int
    window: float = 0.02
    choices: int = CHOICES


@dataclass(frozen=True)
class Outcome:
    """Seconds of requests from their coming to their picture, and what replicas did."""

    waits: Sequence[float]  # before the run
    latencies: Sequence[float]
    batches: Sequence[int]  # of runs
    busy: float  # share of time in which a replica draws

    def summary(self) -> dict[str, Any]:
        p50, p95, p99 = np.percentile(self.latencies, [50, 95, 99]).tolist()
        return {"p50": p50, "p95": p95, "p99": p99, "mean_batch": fmean(self.batches), "busy": self.busy}


@dataclass
class _Replica:
    """One line and its engines."""

    waiting: list[float] = field(default_factory=list)  # when each came
    running: int = 0  # images of the run under way
    last: int = 0  # images of the run before
    until: float = 0.0  # when the window after that run is over
    expected: int = 0  # requests that it waits for

    @property
    def requests(self) -> int:
        return len(self.waiting) + self.running


def simulate(fleet: Fleet, rate: float, requests: int, seed: int = 0) -> Outcome:
    """Poisson arrivals of `rate` a second, which no replica refuses."""
    return _Simulation(fleet, random.Random(seed)).run(rate, requests)


class _Simulation:
    """Events in the order of time: an arrival, the end of a run, the end of a window."""

    def __init__(self, fleet: Fleet, chance: random.Random) -> None:
        self._fleet, self._chance = fleet, chance
        self._replicas = [_Replica() for _ in range(fleet.replicas)]
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._count = 0  # of events, for those at the same time
        self._found: list[tuple[float, float, float]] = []  # came, began, ended
        self._batches: list[int] = []
        self._busy = 0.0

    def run(self, rate: float, requests: int) -> Outcome:
        at = 0.0
        for _ in range(requests):
            at += self._chance.expovariate(rate)
            self._until(at)
            self._arrive(at)
        self._until(float("inf"))
        kept = sorted(self._found)[int(DISCARDED * requests) :]
        ended = max(end for _, _, end in self._found)
        return Outcome(
            [began - came for came, began, _ in kept],
            [end - came for came, _, end in kept],
            self._batches,
            self._busy / (self._fleet.replicas * ended),
        )

    def _until(self, at: float) -> None:
        while self._events and self._events[0][0] <= at:
            now, _, happen = heapq.heappop(self._events)
            happen(now)

    def _at(self, when: float, happen: Callable[[float], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (when, self._count, happen))

    def _arrive(self, now: float) -> None:
        choices = min(self._fleet.choices, len(self._replicas))
        replica = min(self._chance.sample(self._replicas, choices), key=lambda one: one.requests)
        replica.waiting.append(now)
        self._look(replica, now)

    def _look(self, replica: _Replica, now: float) -> None:
        """Begin a run if one is due, or look again when the window is over."""
        waiting = len(replica.waiting)
        if replica.running or not waiting:
            return
        if is_due(waiting, waiting, self._fleet.most_images, replica.expected, over=now >= replica.until):
            self._begin(replica, now)
        else:
            self._at(replica.until, lambda then: self._look(replica, then))

    def _begin(self, replica: _Replica, now: float) -> None:
        count = min(len(replica.waiting), self._fleet.most_images)
        came, replica.waiting = replica.waiting[:count], replica.waiting[count:]
        seconds = self._fleet.seconds(count)
        replica.running = replica.last = count
        self._batches.append(count)
        self._busy += seconds
        self._found += [(one, now, now + seconds) for one in came]
        self._at(now + seconds, lambda then: self._end(replica, then))

    def _end(self, replica: _Replica, now: float) -> None:
        replica.running = 0
        replica.until, replica.expected = now + self._fleet.window, replica.last + len(replica.waiting)
        self._look(replica, now)
