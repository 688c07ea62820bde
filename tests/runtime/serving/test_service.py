"""The server apart from HTTP."""

import json
import time
from collections.abc import Iterator
from queue import Queue

import pytest

from runtime import RealCompo
from runtime.serving.jobs import Done, Event, Failed
from runtime.serving.service import Service
from runtime.serving.settings import Settings
from tests.runtime.serving.server import PATIENCE
from tests.runtime.serving.test_server import SHORT


@pytest.fixture
def service(pipe: RealCompo) -> Iterator[Service]:
    service = Service(pipe, Settings())
    service.start()
    yield service
    service.close()


def samples(service: Service) -> tuple[float | None, float | None]:
    """Requests that wait, and images of the run under way."""
    value = service.metrics.registry.get_sample_value
    return value("realcompo_queue_length"), value("realcompo_drawing_images")


@pytest.mark.parametrize(("steps", "kind"), [(4, Done), (2000, Failed)])
def test_whoever_is_told_the_end_finds_no_run_under_way(
    service: Service, monkeypatch: pytest.MonkeyPatch, steps: int, kind: type[Event]
) -> None:
    """Answered or failed: a client may ask at once for the metrics, or for a second picture."""
    order = service.read(json.dumps(SHORT | {"stream": True}).encode())
    seen = Queue[tuple[Event, tuple[float | None, float | None]]]()
    order.knobs["steps"] = steps  # 2000: more than the schedule has, which `read` would refuse
    service.accept(order, lambda event: seen.put((event, samples(service))), None, time.monotonic())
    during = set()
    while not isinstance((found := seen.get(timeout=PATIENCE))[0], Done | Failed):
        during.add(found[1])
    event, after = found
    assert isinstance(event, kind) and after == (0, 0)
    assert during == ({(0, 1)} if kind is Done else set())
