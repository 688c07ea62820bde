"""Two replicas on a real Ray: requests spread, one replica is killed under load, and none of them is lost."""

import os
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import Popen
from typing import Any, cast

import pytest
import torch

from runtime import RealCompo
from tests.runtime.serving.server import Answer, Server, finish, until
from tests.runtime.serving.test_server import LONG, SHORT, assert_same, library

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'realcompo[ray]'")
psutil = pytest.importorskip("psutil", reason="comes with Ray")
pytestmark = pytest.mark.slow

SLOW = {
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "300",  # its own limits suit a quiet machine
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "300",
    "RAY_SERVE_QUEUE_LENGTH_RESPONSE_DEADLINE_S": "5",
    "RAY_worker_niceness": "0",  # beyond this process's own: 15 by default
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
}
OPTIONS = {
    "min_replicas": "2",
    "cpus": "0.5",
    "max_queue": "24",
    "max_steps": "1000",
    "time_limit": "10min",
    "modes": "exact,surrogate",
}


@pytest.fixture(scope="module")
def pipe(bundle: Path) -> Iterator[RealCompo]:
    """With one thread, as a replica has: pictures on two differ in their last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield RealCompo.load(bundle)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def fleet(bundle: Path) -> Iterator[Server]:
    """As `serve run` starts it; the socket is the one of Ray's own proxy."""
    os.environ.update(SLOW)
    from ray import serve

    from runtime.serving.ray import app

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    ray.init(num_cpus=2, object_store_memory=100 * 2**20, include_dashboard=False, namespace="serve")
    server = Server(cast("Popen[str]", None), port)
    try:
        while True:
            try:
                serve.start(http_options={"port": port})
                break
            except TimeoutError:  # a busy machine: the proxy is on its way
                continue
        serve.run(app({"bundle": str(bundle), **OPTIONS}))
        until(lambda: _is_ready(server))
        yield server
    finally:
        serve.shutdown()
        ray.shutdown()


def _is_ready(server: Server) -> bool:
    try:
        return server.ask("GET", "/v2/health/ready").status == 200 and len(drawn(server)) == 2
    except OSError:
        return False


def samples(server: Server, name: str) -> dict[str, float]:
    """By replica."""
    lines = [line for line in server.ask("GET", "/metrics").text.splitlines() if line.startswith(f"{name}{{")]
    return {line.split('replica="')[1].split('"')[0]: float(line.rpartition(" ")[2]) for line in lines}


def drawn(server: Server) -> dict[str, float]:
    return samples(server, "realcompo_images_total")


def replicas() -> list[Any]:
    """Their processes, which are children of this one."""
    children = psutil.Process().children(recursive=True)
    return [one for one in children if "ServeReplica:default:Replica" in " ".join(one.cmdline())]


def draw_all(server: Server, bodies: list[dict[str, Any]]) -> list[Answer]:
    with ThreadPoolExecutor(len(bodies)) as clients:
        return list(clients.map(server.draw, bodies))


def test_a_mode_that_is_not_loaded_is_refused(fleet: Server) -> None:
    answer = fleet.draw(SHORT | {"gradient": "handover"})
    assert answer.status == 400 and "among the modes that are loaded, exact, surrogate" in answer.error["message"]


def test_requests_spread_and_are_drawn_as_the_library_draws_them(fleet: Server, pipe: RealCompo) -> None:
    before = drawn(fleet)
    bodies = [SHORT | {"seed": seed, "num_inference_steps": 40, "n": 1 + seed % 2} for seed in range(16)]
    for body, answer in zip(bodies, draw_all(fleet, bodies), strict=True):
        assert_same(answer, library(pipe, body))
    after = drawn(fleet)
    assert len(after) == 2 and sum(after.values()) - sum(before.values()) == 24
    assert all(after[name] > before[name] for name in after)


def test_a_request_is_cancelled_by_its_id_on_whichever_replica_it_is(fleet: Server) -> None:
    connection = fleet.start(LONG, X_Request_Id="mine")
    until(lambda: sum(samples(fleet, "realcompo_drawing_images").values()) == 1)
    assert fleet.ask("DELETE", "/v1/images/generations/mine").status == 200
    assert finish(connection).error["code"] == "cancelled"
    until(lambda: sum(samples(fleet, "realcompo_drawing_images").values()) == 0)


def test_a_client_that_leaves_frees_its_place(fleet: Server) -> None:
    connection = fleet.start(LONG)
    until(lambda: sum(samples(fleet, "realcompo_drawing_images").values()) == 1)
    connection.close()
    until(lambda: sum(samples(fleet, "realcompo_drawing_images").values()) == 0)


def test_more_than_may_wait_are_told_when_to_come_back(fleet: Server, pipe: RealCompo) -> None:
    """Each replica has 24 at most, and 24 more wait in front."""
    bodies = [SHORT | {"num_inference_steps": 150, "seed": seed} for seed in range(120)]
    answers = draw_all(fleet, bodies)
    statuses = Counter(answer.status for answer in answers)
    assert set(statuses) == {200, 429} and statuses[200] >= 48
    refused = next(answer for answer in answers if answer.status == 429)
    assert refused.error["code"] == "queue_full" and int(refused.headers["retry-after"]) >= 1
    assert fleet.draw(SHORT).status == 200


def test_one_replica_is_killed_under_load_and_no_request_is_lost(fleet: Server, pipe: RealCompo) -> None:
    bodies = [SHORT | {"seed": seed, "num_inference_steps": 100} for seed in range(20)]
    victim, _ = replicas()
    with ThreadPoolExecutor(len(bodies)) as clients:
        asked = [clients.submit(fleet.draw, body) for body in bodies]
        streamed = clients.submit(fleet.events, bodies[0])
        until(lambda: all(samples(fleet, "realcompo_drawing_images").values()))
        victim.kill()
        answers, events = [one.result() for one in asked], streamed.result()
    for body, answer in zip(bodies, answers, strict=True):
        assert_same(answer, library(pipe, body))
    indices = [data["partial_image_index"] for name, data in events if "partial" in name]
    assert indices == [0, 1, 2] and events[-1][0] == "image_generation.completed"
    assert sum(samples(fleet, "realcompo_lost_total").values()) >= 1
    until(lambda: len(drawn(fleet)) == 2)  # another has taken its place
