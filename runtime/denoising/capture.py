"""CUDA graphs: record the launches of a piece of work once, then replay them all in one call."""

import warnings
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

import torch

from runtime.errors import RealCompoError

T = TypeVar("T")


class Graph(Protocol):
    """A CUDA graph."""

    def capture(self, work: Callable[[], T]) -> T:
        """Call `work` and record what it launches, which does not run. Tensors in its result are what replays fill."""

    def replay(self) -> None:
        """Launch what was recorded, on the addresses of then."""


class TorchGraph:
    """PyTorch's CUDA graph. Temporary tensors live in memory of its own."""

    def __init__(self) -> None:
        self._graph = torch.cuda.CUDAGraph()

    def capture(self, work: Callable[[], T]) -> T:
        # The current stream, for that one is warm; "thread_local", so that another thread's allocations do not matter
        stream = torch.cuda.current_stream()
        with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
            return work()

    def replay(self) -> None:
        self._graph.replay()


class Graphs(Generic[T]):
    """Runs work of several kinds: the first time of a kind as it is, which warms it up, then as a CUDA graph.

    Work of a kind must launch the same on the same addresses each time. To capture it, it is called once more, and what
    it launches then does not run. Without `make_graph`, and after a capture that failed, all work runs as it is.
    """

    def __init__(self, make_graph: Callable[[], Graph] | None) -> None:
        self._make_graph = make_graph
        self._warm: set[Hashable] = set()
        self._captured: dict[Hashable, tuple[Graph, T]] = {}

    def run(self, kind: Hashable, work: Callable[[], T]) -> T:
        """What `work` returns; from a replay, the same object each time."""
        if self._make_graph is None or kind not in self._warm:
            self._warm.add(kind)
            return work()
        if kind not in self._captured and not self._capture(kind, self._make_graph(), work):
            return work()
        graph, result = self._captured[kind]
        graph.replay()
        return result

    def _capture(self, kind: Hashable, graph: Graph, work: Callable[[], T]) -> bool:
        try:
            self._captured[kind] = graph, graph.capture(work)
        except (RuntimeError, RealCompoError) as error:
            self._make_graph = None
            reason = " ".join(str(error).split())
            warnings.warn(f"CUDA graphs are off, launches go one by one: capturing failed: {reason}", stacklevel=2)
            return False
        return True
