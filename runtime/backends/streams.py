"""On which CUDA streams, or CPU threads, a run's work goes."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

import torch

from runtime.words import MODELS, Model

T = TypeVar("T")


class Streams:
    """On a GPU a stream for runs, so that TensorRT needs no synchronisation with the default one; on a CPU the caller's
    thread. And maybe a second one, for calls that do not depend on each other."""

    def __init__(self, device: torch.device, second: bool = False) -> None:
        on_gpu = device.type == "cuda"
        self._own = torch.cuda.Stream(device) if on_gpu else None
        self._second = torch.cuda.Stream(device) if on_gpu and second else None
        self._thread = ThreadPoolExecutor(1, "realcompo") if second and not on_gpu else None
        self._thread_works = False

    @contextmanager
    def own(self) -> Iterator[None]:
        """Put the block's work on the own stream: after what the caller has enqueued, before what it enqueues later.

        On a CPU PyTorch has one thread for it: its operators between engines are so small that a second one takes
        longer to wake than they take, and the engines have threads of their own.
        """
        if self._own is None:
            with _one_torch_thread():
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
        """What the calls return. With a second stream or thread, the first of several calls goes there; what follows
        waits for all. A capture sees the fork and the join as such.
        """
        if self._second and len(calls) > 1:
            return _on_streams(calls, self._second)
        if self.has_free_thread and len(calls) > 1:
            return self._on_threads(calls)
        return [call() for call in calls]

    def of_model(self, model: Model | None) -> torch.cuda.Stream | None:
        """On a GPU, the stream that `side_by_side` calls a model's engines on; everything else is on the own one."""
        return self._second if self._second and model == MODELS[0] else self._own

    @property
    def has_second(self) -> bool:
        """Whether calls can go side by side."""
        return self._second is not None or self._thread is not None

    @property
    def has_free_thread(self) -> bool:
        """Whether there is a second thread, and nothing runs beside the caller."""
        return self._thread is not None and not self._thread_works

    def _on_threads(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        assert self._thread
        self._thread_works = True
        first = self._thread.submit(calls[0])
        try:
            others = [call() for call in calls[1:]]
        finally:
            wait([first])  # whatever happened: its engine must be idle when the caller goes on
            self._thread_works = False
        return [first.result(), *others]


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _on_streams(calls: Sequence[Callable[[], T]], second: torch.cuda.Stream) -> list[T]:
    current = torch.cuda.current_stream(second.device)
    second.wait_stream(current)
    with torch.cuda.stream(second):
        first = calls[0]()
    others = [call() for call in calls[1:]]
    current.wait_stream(second)
    return [first, *others]
