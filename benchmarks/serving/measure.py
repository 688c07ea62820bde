"""How much does serving cost, and what happens beyond what the engines can do?

The library draws the same pictures in a loop in this process. It and the server take turns, so that both see the same
machine; every picture that the server sends is compared with the library's.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import torch

from benchmarks.serving.load import LOST, Clients, Reply, digest
from benchmarks.serving.process import Served, served
from benchmarks.serving.soak import soak
from runtime import Layout, RealCompo, Region
from runtime.bundle.manifest import read_manifest
from runtime.errors import RealCompoError

PROMPT = "a red ball and a blue cube"
BOXES = {"a red ball": (0.08, 0.50, 0.46, 0.88), "a blue cube": (0.56, 0.12, 0.94, 0.50)}
SEEDS = range(8)
SHARES = (0.25, 0.5, 0.75, 1.0)  # of the throughput at saturation
OVERLOAD = 10  # times that throughput
SETTLED = 0.25  # of the overload's time, after which memory is to stay as it is

Report = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    steps: int
    max_batch: int
    max_queue: int
    rounds: int
    seconds: float  # of each round at saturation, and at each rate
    overload: float  # seconds
    soak: int  # requests


class Library:
    """The library in a loop."""

    def __init__(self, bundle: Path, steps: int) -> None:
        self._pipe = RealCompo.load(bundle)
        self._layout = Layout([Region(phrase, box=box) for phrase, box in BOXES.items()])
        self._steps = steps

    def digests(self) -> dict[int, str]:
        return {seed: digest(self._draw([seed])[0]) for seed in SEEDS}

    def seconds(self, batch: int) -> float:
        """Of one call."""
        started = time.perf_counter()
        self._draw([SEEDS[k % len(SEEDS)] for k in range(batch)])
        return time.perf_counter() - started

    def _draw(self, seeds: Sequence[int]) -> list[Any]:
        prompts, layouts = [PROMPT] * len(seeds), [self._layout] * len(seeds)
        return self._pipe(prompts, layout=layouts, seeds=seeds, **self._pipe.preset(steps=self._steps)).images


def measure(bundle: Path, settings: Settings, report: Report = lambda what: None) -> dict[str, Any]:
    """The fields of the JSON result.

    Raises:
        RealCompoError: a bundle that does not load, or a server that does not start.
    """
    library = Library(bundle, settings.steps)
    report("drawing what the server must draw")
    wanted = library.digests()
    regions = [{"phrase": phrase, "box": box} for phrase, box in BOXES.items()]
    body = {"prompt": PROMPT, "layout": {"regions": regions}, "num_inference_steps": settings.steps}
    threads = torch.get_num_threads()
    with served(bundle, settings.max_queue, settings.max_batch, threads) as server:
        clients = Clients(server, body, SEEDS)
        lone = _lone(clients, library, settings, wanted, report)
        saturated = _saturated(clients, library, settings, wanted, report)
        rates = [_rate(clients, share, saturated["throughput"], settings, report) for share in SHARES]
        overload = _overload(server, clients, saturated["throughput"], settings, wanted, report)
        soaked = soak(server, body, settings.soak, report)
        exit_code = server.stop()
    return {
        "bundle": {"pair": read_manifest(bundle).pair.name, "path": str(bundle)},
        "settings": {**asdict(settings), "threads": threads},
        "lone": lone,
        "saturated": saturated,
        "rates": rates,
        "overload": overload,
        "soak": soaked,
        "exit_code": exit_code,
    }


def _lone(
    clients: Clients, library: Library, settings: Settings, wanted: dict[int, str], report: Report
) -> dict[str, float]:
    """What one client waits for besides its run, and beside a call of the library."""
    report("one client")
    clients.ask(0)
    library.seconds(1)
    pairs = [(clients.ask(k), library.seconds(1)) for k in range(10 * settings.rounds)]
    _check([reply for reply, _ in pairs], wanted)
    return {
        "added_ms": 1000 * median(reply.seconds - seconds for reply, seconds in pairs),
        "outside_run_ms": 1000 * median(reply.seconds - reply.run for reply, _ in pairs),
        "run_vs_library": median(reply.run / seconds for reply, seconds in pairs),
        "seconds": median(reply.seconds for reply, _ in pairs),
        "library_seconds": median(seconds for _, seconds in pairs),
    }


def _saturated(
    clients: Clients, library: Library, settings: Settings, wanted: dict[int, str], report: Report
) -> dict[str, Any]:
    """Twice as many clients as fit into a run, beside the library at that batch size, in turns."""
    pairs, batches = [], list[int]()
    for k in range(settings.rounds):
        report(f"saturation, round {k + 1} of {settings.rounds}")
        until, calls = time.perf_counter() + settings.seconds, list[float]()
        while time.perf_counter() < until:
            calls.append(library.seconds(settings.max_batch))
        replies = clients.in_turns(2 * settings.max_batch, settings.seconds)
        _check(replies, wanted)
        pairs.append((steady_throughput(replies, settings.max_batch), settings.max_batch / fmean(calls)))
        batches += [reply.batch for reply in replies]
    return {
        "throughput": median(served for served, _ in pairs),
        "library_throughput": median(called for _, called in pairs),
        "vs_library": median(served / called for served, called in pairs),
        "mean_batch": fmean(batches),
    }


def _rate(clients: Clients, share: float, throughput: float, settings: Settings, report: Report) -> dict[str, Any]:
    report(f"{share:.0%} of the throughput")
    replies = clients.at_rate(share * throughput, settings.seconds * settings.rounds)
    return {"share": share, "rate": share * throughput, **summary(replies)}


def steady_throughput(replies: Sequence[Reply], first: int) -> float:
    """Images a second, of what came after the first: those are drawn before all clients are there."""
    ends = sorted(reply.ended for reply in replies)
    return (len(ends) - first) / (ends[-1] - ends[first - 1])


def _check(replies: Sequence[Reply], wanted: dict[int, str]) -> None:
    """Raises: RealCompoError: below saturation, a request that is not drawn as the library draws it."""
    for reply in replies:
        if reply.status != 200:
            raise RealCompoError(f"the server answers {reply.status} to seed {reply.seed}, so nothing is timed")
        if reply.digest != wanted[reply.seed]:
            raise RealCompoError(f"seed {reply.seed} is another picture than the library's, so nothing is timed")


def summary(replies: Sequence[Reply]) -> dict[str, Any]:
    """Latencies in seconds are of those that were drawn."""
    drawn = [reply for reply in replies if reply.status == 200]
    seconds = [reply.seconds for reply in drawn]
    p50, p95, p99 = np.percentile(seconds, [50, 95, 99]).tolist() if drawn else [None] * 3
    statuses = Counter(reply.status for reply in replies)
    return {
        "requests": len(replies),
        "drawn": len(drawn),
        "refused": statuses[429],
        "lost": statuses[LOST],
        "others": len(replies) - len(drawn) - statuses[429] - statuses[LOST],
        "p50": p50,
        "p95": p95,
        "p99": p99,
        "mean_batch": fmean(reply.batch for reply in drawn) if drawn else None,
    }


def _overload(
    server: Served, clients: Clients, throughput: float, settings: Settings, wanted: dict[int, str], report: Report
) -> dict[str, Any]:
    """Far more than can be drawn: who is accepted must get the right picture, and memory must not grow."""
    report(f"{OVERLOAD} times the throughput for {settings.overload:g} s")
    resident = [server.resident]
    replies = clients.at_rate(OVERLOAD * throughput, settings.overload, lambda: resident.append(server.resident))
    settled = resident[int(SETTLED * len(resident)) :]
    started = time.perf_counter()
    alone = clients.ask(0)
    return {
        "rate": OVERLOAD * throughput,
        **summary(replies),
        "wrong": sum(reply.status == 200 and reply.digest != wanted[reply.seed] for reply in replies),
        "memory_growth": max(settled) / min(settled) - 1,
        "resident_mib": resident[-1] / 2**20,
        "recovery_seconds": time.perf_counter() - started - alone.run,
        "recovered": alone.status == 200,
    }
