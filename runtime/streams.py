"""On which CUDA streams a run's work goes. On a CPU there are none: work happens in the caller's order."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")


class Streams:
    """A stream for runs, so that TensorRT needs no synchronisation with the default one, and maybe a second one."""

    def __init__(self, device: torch.device, second: bool = False) -> None:
        on_gpu = device.type == "cuda"
        self._own = torch.cuda.Stream(device) if on_gpu else None
        self._second = torch.cuda.Stream(device) if on_gpu and second else None

    @contextmanager
    def own(self) -> Iterator[None]:
        """Put the block's work on the own stream: after what the caller has enqueued, before what it enqueues later."""
        if self._own is None:
            yield
            return
        caller = torch.cuda.current_stream(self._own.device)
        self._own.wait_stream(caller)
        try:
            with torch.cuda.stream(self._own):
                yield
        finally:
            caller.wait_stream(self._own)

    def side_by_side(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """What the calls return. With a second stream, the first of several calls goes there; what follows waits for
        all. A capture sees the fork and the join as such.
        """
        if self._second is None or len(calls) < 2:
            return [call() for call in calls]
        current = torch.cuda.current_stream(self._second.device)
        self._second.wait_stream(current)
        with torch.cuda.stream(self._second):
            first = calls[0]()
        others = [call() for call in calls[1:]]
        current.wait_stream(self._second)
        return [first, *others]
