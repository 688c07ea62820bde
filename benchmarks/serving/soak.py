"""Many requests, a third of which are cancelled in one way or the other: nothing may stay behind."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from typing import Any

from benchmarks.serving.process import Served

CLIENTS = 24
HEADERS = {"Content-Type": "application/json"}


def soak(server: Served, body: dict[str, Any], requests: int, report: Callable[[str], None]) -> dict[str, Any]:
    """Of every six requests one hangs up and one is cancelled by its id; memory is compared between the two halves."""
    report(f"{requests} requests, a third of them cancelled")
    before, resident = server.threads, list[int]()

    def ask(k: int) -> int:
        if k % (requests // 20 or 1) == 0:
            resident.append(server.resident)
        return _CLIENTS.get(k % 6, _draw)(server, {**body, "seed": k}, f"soak-{k}")

    with ThreadPoolExecutor(CLIENTS) as threads:
        statuses = list(threads.map(ask, range(requests)))
    _wait_until_idle(server)
    half = len(resident) // 2
    return {
        "requests": requests,
        "drawn": statuses.count(200),
        "cancelled": statuses.count(409) + statuses.count(_LEFT),
        "refused": statuses.count(429),
        "others": len(statuses) - sum(statuses.count(one) for one in (200, 409, _LEFT, 429)),
        "queue_length": server.metric("realcompo_queue_length"),
        "drawing_images": server.metric("realcompo_drawing_images"),
        "threads_before": before,
        "threads_after": server.threads,
        "memory_growth": max(resident[half:]) / max(resident[:half] or resident) - 1,
    }


def _draw(server: Served, body: dict[str, Any], name: str) -> int:
    connection = server.connect()
    try:
        connection.request("POST", "/v1/images/generations", json.dumps(body), HEADERS | {"X-Request-Id": name})
        response = connection.getresponse()
        response.read()
        return response.status
    except (OSError, HTTPException):
        return 0
    finally:
        connection.close()


def _hang_up(server: Served, body: dict[str, Any], name: str) -> int:
    connection = server.connect()
    connection.request("POST", "/v1/images/generations", json.dumps(body), HEADERS)
    time.sleep(0.02)
    connection.close()
    return _LEFT


def _cancel(server: Served, body: dict[str, Any], name: str) -> int:
    with ThreadPoolExecutor(1) as thread:
        drawing = thread.submit(_draw, server, body, name)
        while not drawing.done():
            time.sleep(0.02)
            connection = server.connect()
            connection.request("DELETE", f"/v1/images/generations/{name}")
            connection.getresponse().read()
            connection.close()
        return drawing.result()


def _wait_until_idle(server: Served) -> None:
    while server.metric("realcompo_queue_length") or server.metric("realcompo_drawing_images"):
        time.sleep(0.05)


_LEFT = -1
_CLIENTS = {2: _hang_up, 5: _cancel}
