"""The server apart from HTTP: requests come in as orders, and go out as events."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from runtime import RealCompo, RealCompoError
from runtime.layouts.writing import layout_json
from runtime.planners import make_planner
from runtime.serving.bundle import Bundle
from runtime.serving.contract import Order, read_generation, read_plan
from runtime.serving.engine_thread import EngineThread
from runtime.serving.errors import Refusal, bad_field, busy, cancelled, out_of_time, stopping
from runtime.serving.jobs import Event, Failed, Job
from runtime.serving.line import Full, Line
from runtime.serving.metrics import Metrics
from runtime.serving.names import new_name
from runtime.serving.settings import Settings

LONGEST_WAIT = 600  # seconds that Retry-After may say


class Service:
    """One pipeline, its line and its thread."""

    def __init__(self, pipe: RealCompo, settings: Settings) -> None:
        self.settings = settings = settings.within(pipe.most_images)
        self.metrics = Metrics()
        self.bundle = Bundle(pipe.manifest, make_planner(settings.planner), pipe.gradients)
        self._pipe = pipe
        self._line = Line(settings.max_queue, settings.max_batch, settings.batch_window_seconds)
        self.metrics.waiting.set_function(self._line.__len__)
        self._engine = EngineThread(pipe, self._line, self.metrics)
        self._jobs: dict[str, Job] = {}
        self._arriving = 0
        self._stopping = False

    @property
    def health(self) -> Mapping[str, bool]:
        return {
            "live": self._engine.is_alive,
            "ready": self._engine.ready and self._engine.is_alive and not self._stopping,
        }

    @property
    def has_started(self) -> bool:
        """Whether the first pictures are drawn, or have failed."""
        return self._engine.ready

    @property
    def same_bits(self) -> bool | None:
        return self._engine.same_bits

    @property
    def is_idle(self) -> bool:
        """Whether all that was accepted is answered."""
        return not self._jobs and not self._arriving

    def start(self) -> None:
        self._engine.start()

    def stop(self) -> None:
        """Accept nothing more; what was accepted is drawn."""
        self._stopping = True

    def close(self) -> None:
        """End the thread, after what it has."""
        self._line.close()
        self._engine.join()

    def arrive(self) -> None:
        """A request's body is about to be read: `depart` follows.

        Raises:
            Refusal: the server is stopping, or so busy that reading is in vain.
        """
        if self._stopping:
            raise stopping()
        if self._line.is_full or self._arriving >= self.settings.max_queue:
            raise busy(self._wait())
        self._arriving += 1

    def depart(self) -> None:
        self._arriving -= 1

    def read(self, body: bytes) -> Order:
        """Raises: Refusal: a 400 that names the field."""
        order = read_generation(body, self.bundle, self.settings)
        try:
            warnings = self._pipe.check(
                order.prompt,
                layout=order.layout,
                negative_prompt=order.negative_prompt,
                num_images=order.count,
                coefficients=order.coefficients,
                seed=order.seed,
                **order.knobs,
            )
        except RealCompoError as error:
            raise bad_field(error, "layout") from error
        return replace(order, warnings=tuple(warnings))

    def plan(self, body: bytes) -> str:
        """A layout for a prompt, as JSON.

        Raises:
            Refusal: a 400 that names the field.
        """
        return layout_json(read_plan(body, self.bundle.planner))

    def accept(self, order: Order, tell: Callable[[Event], None], name: str | None, came: float) -> Job:
        """Put a request in line, which came then.

        Raises:
            Refusal: no place is left, or a request of that name is under way.
        """
        job = Job(order, tell, name or new_name(), came)
        if job.id in self._jobs:
            raise Refusal(409, "id_in_use", f"a request of the id {job.id} is under way; choose another")
        try:
            self._line.join(job)
        except Full as full:
            raise busy(self._wait()) from full
        self._jobs[job.id] = job
        return job

    def find(self, name: str) -> Job:
        """Raises: Refusal: there is no such request under way."""
        if name not in self._jobs:
            raise Refusal(404, "not_found", "no request of this id is waiting or being drawn")
        return self._jobs[name]

    def cancel(self, job: Job) -> None:
        """Tell who asked, and free its place."""
        self._drop(job)
        job.tell(Failed(cancelled()))

    def expire(self, job: Job) -> Refusal:
        self._drop(job)
        return out_of_time(self.settings.time_limit)

    def forget(self, job: Job) -> None:
        """It is answered, or whoever asked has left."""
        self._drop(job)
        self._jobs.pop(job.id, None)

    def _drop(self, job: Job) -> None:
        """Free its place: at once in line, after the present step in a run."""
        job.cancelled = True
        self._line.leave(job)

    def _wait(self) -> int:
        """Seconds after which there is probably a place again."""
        return min(max(math.ceil(self._engine.seconds_a_request * len(self._line)), 1), LONGEST_WAIT)
