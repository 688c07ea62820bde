"""The line in which requests wait for the engine: bounded, oldest first, and those that can share a run go together."""

import time
from collections.abc import Callable, Sequence
from threading import Condition

from runtime.serving.jobs import Job


class Full(Exception):
    """No place is left."""


class Line:
    """A run takes the oldest request and those behind it that can share its run. So whoever is k-th in line waits for
    at most k runs, whatever comes later.

    A request that finds the engine free goes at once. But clients that were answered together ask again together: for
    `window` seconds after a run, the next one waits for as many as were in that run or in line.
    """

    def __init__(self, most: int, most_images: int, window: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._most_images, self._window, self._clock = most, most_images, window, clock
        self._jobs: list[Job] = []
        self._last = 0  # requests in the last run
        self._open = True
        self._changed = Condition()

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def is_full(self) -> bool:
        return len(self._jobs) >= self._most

    def join(self, job: Job) -> None:
        """Raises: Full: no place is left, or the line is closed."""
        with self._changed:
            if self.is_full or not self._open:
                raise Full
            self._jobs.append(job)
            self._changed.notify()

    def leave(self, job: Job) -> None:
        """Free its place, if it still waits."""
        with self._changed:
            self._jobs = [one for one in self._jobs if one is not job]

    def close(self) -> None:
        """Let nobody join any more; who waits is served."""
        with self._changed:
            self._open = False
            self._changed.notify()

    def take(self) -> list[Job]:
        """Wait for the requests of the next run; empty once the line is closed and all are served."""
        with self._changed:
            until, expected = self._clock() + self._window, self._last + len(self._jobs)
            while not (self._jobs and self._goes(until, expected)):
                if not self._open and not self._jobs:
                    return []
                self._changed.wait(max(until - self._clock(), 0) if self._jobs else None)
            chosen = pick(self._jobs, self._most_images)
            self._jobs = [job for job in self._jobs if job not in chosen]
            self._last = len(chosen)
            return chosen

    def _goes(self, until: float, expected: int) -> bool:
        images = sum(job.order.count for job in self._jobs)
        due = is_due(images, len(self._jobs), self._most_images, expected, over=self._clock() >= until)
        return due or not self._open


def is_due(images: int, waiting: int, most_images: int, expected: int, over: bool) -> bool:
    """Whether the next run begins: the window after the last one is over, the run is full, or all expected are here."""
    return over or images >= most_images or waiting >= expected


def pick(jobs: Sequence[Job], most_images: int) -> list[Job]:
    """The oldest, and in order those of its kind as long as all their images fit into a run."""
    kind, room = jobs[0].order.kind, most_images
    chosen: list[Job] = []
    for job in jobs:
        if job.order.kind == kind:
            if chosen and job.order.count > room:
                break
            chosen.append(job)
            room -= job.order.count
    return chosen
