"""The line: bounded, fair, and it joins what can share a run. Arrivals are made up by hypothesis."""

import threading
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.serving.contract import Order
from runtime.serving.jobs import Job
from runtime.serving.line import Full, Line, pick
from tests.runtime.serving.server import until

MOST_IMAGES = 4


def job(kind: int = 0, count: int = 1, seed: int = 0) -> Job:
    order = Order("a ball", "", count, seed, None, None, {"steps": kind + 1})
    return Job(order, lambda event: None)


arrivals = st.lists(st.tuples(st.integers(0, 2), st.integers(1, MOST_IMAGES)), max_size=8)


@given(st.lists(arrivals, max_size=12))
def test_who_is_kth_in_line_waits_for_at_most_k_runs(rounds: list[list[tuple[int, int]]]) -> None:
    """Each round some arrive, then there is a run; the oracle counts runs since a job stood at its place."""
    line = Line(most=10_000, most_images=MOST_IMAGES, window=0)
    place: dict[Job, int] = {}
    waited: Counter[Job] = Counter()
    served: list[Job] = []
    for arriving in [*rounds, *[[]] * sum(map(len, rounds))]:
        for kind, count in arriving:
            place[new := job(kind, count)] = len(line) + 1
            line.join(new)
        if not len(line):
            continue
        run = line.take()
        assert len({one.order.kind for one in run}) == 1
        assert sum(one.order.count for one in run) <= MOST_IMAGES
        served += run
        for one in place:
            waited[one] += one not in served
    assert Counter(served) == Counter(list(place))  # each once
    assert all(waited[one] < place[one] for one in place)


def test_a_kind_that_keeps_coming_does_not_starve_another() -> None:
    line = Line(most=100, most_images=2, window=0)
    other = job(kind=1)
    for new in (job(), job(), job(), other):
        line.join(new)
    runs = 0
    while other not in line.take():
        runs += 1
        line.join(job())
        line.join(job())
    assert runs == 2


def test_pick_keeps_the_order_within_a_kind() -> None:
    small, large, late = job(count=2), job(count=3), job(count=1)
    assert pick([small, large, late], MOST_IMAGES) == [small]  # the late one would fit, but the large one is older
    assert pick([small, job(kind=1), late], MOST_IMAGES) == [small, late]


def test_a_full_line_takes_nobody_and_who_leaves_makes_room() -> None:
    line = Line(most=2, most_images=MOST_IMAGES, window=0)
    first, second = job(), job()
    line.join(first)
    line.join(second)
    with pytest.raises(Full):
        line.join(job())
    line.leave(first)
    line.leave(first)
    assert len(line) == 1
    line.join(third := job())
    assert line.take() == [second, third]


def test_a_closed_line_serves_who_waits_and_then_nobody() -> None:
    line = Line(most=2, most_images=MOST_IMAGES, window=60)
    line.join(first := job())
    line.close()
    with pytest.raises(Full):
        line.join(job())
    assert line.take() == [first] and line.take() == []


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


class Taker:
    """A thread that takes one run."""

    def __init__(self, line: Line) -> None:
        self.run: list[Job] | None = None
        self._line = line
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def _take(self) -> None:
        self.run = self._line.take()

    @property
    def done(self) -> bool:
        return self.run is not None


def test_the_first_goes_at_once_and_after_a_run_the_next_waits_for_as_many() -> None:
    """The clock stands still, so that only company can end the wait."""
    line = Line(most=10, most_images=8, window=60, clock=Clock())
    for _ in range(3):
        line.join(job())
    assert len(line.take()) == 3  # nobody was there before
    taker = Taker(line)
    line.join(job())
    line.join(job())
    assert not taker.done  # the last run had three
    line.join(job())
    until(lambda: taker.done)
    assert taker.run and len(taker.run) == 3


def test_the_wait_ends_with_the_window() -> None:
    clock = Clock()
    line = Line(most=10, most_images=8, window=60, clock=clock)
    for _ in range(3):
        line.join(job())
    line.take()
    taker = Taker(line)
    line.join(job())
    clock.now = 61
    line.join(job())  # wakes it
    until(lambda: taker.done)
    assert taker.run and len(taker.run) <= 2
