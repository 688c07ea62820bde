"""What a server counts, for Prometheus."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from runtime.serving.jobs import Done, Job
from runtime.stats import Stats

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.waiting = Gauge("realcompo_queue_length", "Requests that wait.", registry=registry)
        self.drawing = Gauge("realcompo_drawing_images", "Images of the run under way.", registry=registry)
        self.answers = Counter(
            "realcompo_answers", "Requests to draw, by the status of the answer.", ["status"], registry=registry
        )
        self.refusals = Counter(
            "realcompo_refusals", "Requests to draw that were refused.", ["reason"], registry=registry
        )
        self.images = Counter("realcompo_images", "Images drawn for those who stayed.", registry=registry)
        self.batch_images = Histogram("realcompo_batch_images", "Images of a run.", buckets=COUNTS, registry=registry)
        self.batch_requests = Histogram(
            "realcompo_batch_requests", "Requests of a run.", buckets=COUNTS, registry=registry
        )
        self.stages = Histogram(
            "realcompo_stage_seconds", "Seconds by stage of a run.", ["stage"], buckets=SECONDS, registry=registry
        )
        self.wait = Histogram(
            "realcompo_wait_seconds", "Seconds that a request waited for its run.", buckets=SECONDS, registry=registry
        )
        self.rows = Counter("realcompo_rows", "Rows that an engine evaluated.", ["engine"], registry=registry)
        self.skipped = Counter(
            "realcompo_skipped_updates", "Coefficients' updates whose gradient was not finite.", registry=registry
        )

    @contextmanager
    def under_way(self, jobs: Sequence[Job]) -> Iterator[None]:
        """A run: over before anybody is told of it, so that whoever has an answer finds no run under way."""
        self.drawing.set(sum(job.order.count for job in jobs))
        try:
            yield
        finally:
            self.drawing.set(0)

    def count_run(self, stats: Stats, results: list[Done]) -> None:
        self.images.inc(sum(len(done.images) for done in results))
        self.skipped.inc(stats.skipped_updates)
        for stage, seconds in stats.seconds.items():
            self.stages.labels(stage).observe(seconds)
        for role, rows in stats.rows.items():
            self.rows.labels(role).inc(rows)

    def text(self) -> bytes:
        return generate_latest(self.registry)


class FrontMetrics:
    """Counters of one that stands before servers."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.lost = Counter("realcompo_lost", "Requests asked again, as their replica died.", registry=registry)
        self.refusals = Counter(
            "realcompo_front_refusals", "Requests that the front refused.", ["reason"], registry=registry
        )

    def text(self) -> bytes:
        return generate_latest(self.registry)


class Gathered:
    """The metrics of several processes, told apart by a label. `generate_latest` takes it for a registry."""

    def __init__(self, texts: Mapping[str, bytes], label: str = "replica") -> None:
        self._texts, self._label = texts, label

    def collect(self) -> Iterator[Metric]:
        together: dict[str, Metric] = {}
        for name, text in self._texts.items():
            for family in text_string_to_metric_families(text.decode()):
                into = together.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                into.samples += [one._replace(labels={self._label: name, **one.labels}) for one in family.samples]
        return iter(together.values())


def gather(texts: Iterable[tuple[str, bytes]]) -> bytes:
    return generate_latest(Gathered(dict(texts)))
