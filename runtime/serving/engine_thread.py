"""The one thread that draws: it takes requests from the line, run after run."""

import logging
import time
from collections.abc import Sequence
from threading import Thread

from runtime import RealCompo, RealCompoError
from runtime.serving.errors import bad_field, failed
from runtime.serving.jobs import Failed, Job
from runtime.serving.joined import Deserted, Joined
from runtime.serving.line import Line
from runtime.serving.metrics import Metrics
from runtime.serving.warm_up import warm_up

MOST_FAILURES = 3  # runs in a row, after which the server says that it is not alive
REMEMBERED = 0.8  # of the earlier pace, when a run shows a new one

log = logging.getLogger("realcompo.serving")


class EngineThread:
    """Owns the pipeline. What a run raises is told to those whose run it was, and the next run goes on."""

    def __init__(self, pipe: RealCompo, line: Line, metrics: Metrics) -> None:
        self._pipe, self._line, self._metrics = pipe, line, metrics
        self._thread = Thread(target=self._work, name="realcompo-engine", daemon=True)
        self._failures = 0
        self.ready = False
        self.same_bits: bool | None = None  # whether an image drawn beside others has the bits that it has alone
        self.seconds_a_request = 0.0  # lately

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive() and self._failures < MOST_FAILURES

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def _work(self) -> None:
        try:
            self.same_bits = warm_up(self._pipe)
        except Exception:
            log.exception("the engines fail at the first picture")
            self._failures = MOST_FAILURES
        self.ready = True
        while jobs := self._line.take():
            self._serve(jobs)

    def _serve(self, jobs: Sequence[Job]) -> None:
        started = time.perf_counter()
        images = sum(job.order.count for job in jobs)
        self._metrics.batch_images.observe(images)
        self._metrics.batch_requests.observe(len(jobs))
        for job in jobs:
            self._metrics.wait.observe(time.monotonic() - job.came)
        self._draw(jobs)
        pace = (time.perf_counter() - started) / len(jobs)
        self.seconds_a_request = REMEMBERED * self.seconds_a_request + (1 - REMEMBERED) * pace

    def _draw(self, jobs: Sequence[Job]) -> None:
        try:
            with self._metrics.under_way(jobs):
                joined = Joined(self._pipe, jobs)
                output = joined.draw()
                results = joined.results(output)
            self._metrics.count_run(output.stats, [done for _, done in results])
            self._failures = 0
        except Deserted:
            results = []
        except Exception as error:
            self._take_apart(jobs, error)
            return
        for job, done in results:
            job.tell(done)

    def _take_apart(self, jobs: Sequence[Job], error: Exception) -> None:
        """Of a run that failed, each request alone: so only the one that fails is told so."""
        if len(jobs) > 1:
            for job in jobs:
                self._draw([job])
            return
        (job,) = jobs
        if isinstance(error, RealCompoError):
            job.tell(Failed(bad_field(error)))
            return
        self._failures += 1
        log.error("a run failed", exc_info=error)
        job.tell(Failed(failed()))
