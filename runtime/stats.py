"""What a generation did and how long it took."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from threading import Lock

import torch

from runtime.runner import Runner


class _Busy:
    """Counts the time within its blocks, once where blocks of several threads overlap."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._lock, self._inside, self._since = Lock(), 0, 0.0

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._since = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self.seconds += time.perf_counter() - self._since


@dataclass
class Stats:
    """Calls and rows (images evaluated) of each engine, seconds of each stage, evaluations that moved the coefficients,
    and updates left out (of all images) because their gradient was not finite, which happens in half precision.

    `engine_seconds` is the host's time within each engine's calls, and `busy_seconds`, by stage, the time in which at
    least one call was under way, for two may be at once. On a GPU a call may return before its work is done: there only
    `seconds` say how long that took, for a stage ends when the device is idle.
    """

    calls: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    engine_seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    busy_seconds: dict[str, float] = field(default_factory=dict)
    skipped_updates: int = 0
    updates: int = 0
    _busy: _Busy = field(default_factory=_Busy, repr=False, compare=False)

    def run(self, runner: Runner, **tensors: torch.Tensor) -> dict[str, torch.Tensor]:
        """Call an engine, count it and time it."""
        role = runner.spec.role
        self.calls[role] += 1
        self.rows[role] += len(next(iter(tensors.values())))
        with nvtx_range(role), self._busy:
            started = time.perf_counter()
            outputs = runner(**tensors)
            self.engine_seconds[role] += time.perf_counter() - started
        return outputs

    def add(self, others: "Stats") -> None:
        """Count the calls of others too. The host's time counts as it was when a CUDA graph was captured."""
        self.calls.update(others.calls)
        self.rows.update(others.rows)
        for role, seconds in others.engine_seconds.items():
            self.engine_seconds[role] += seconds
        self._busy.seconds += others._busy.seconds

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started, busy = time.perf_counter(), self._busy.seconds
        with nvtx_range(name):
            yield
        wait_for_device()
        self.seconds[name] = time.perf_counter() - started
        self.busy_seconds[name] = self._busy.seconds - busy


def nvtx_range(name: str) -> AbstractContextManager[None]:
    """A range of that name in NVIDIA's profilers; nothing where there is no GPU."""
    return torch.cuda.nvtx.range(name) if torch.cuda.is_initialized() else nullcontext()


def wait_for_device() -> None:
    """Until all that was launched is done, if anything was."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
