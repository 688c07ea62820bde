"""Taking turns: one thread at a time, in the order in which they came."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from threading import Lock, get_ident

from runtime.errors import RealCompoError


class Turns:
    """A lock that is handed on in order, and that says so where a thread would wait for itself."""

    def __init__(self) -> None:
        self._mutex = Lock()
        self._waiting: deque[Lock] = deque()
        self._held_by: int | None = None

    @contextmanager
    def take(self) -> Iterator[None]:
        """Wait for the turn, and have it while the block lasts.

        Raises:
            RealCompoError: this thread has it already, as in a callback that calls back in.
        """
        if self._held_by == get_ident():
            raise RealCompoError(
                "this pipeline is at work, and what it called calls it again: a callback cannot draw; wait until the "
                "call returns, or load the bundle a second time"
            )
        self._wait()
        self._held_by = get_ident()
        try:
            yield
        finally:
            self._hand_on()

    @contextmanager
    def join(self) -> Iterator[None]:
        """As `take`, but part of this thread's turn if it has it."""
        with nullcontext() if self._held_by == get_ident() else self.take():
            yield

    def _wait(self) -> None:
        gate = Lock()
        gate.acquire()
        with self._mutex:
            if not self._waiting and self._held_by is None:
                self._held_by = get_ident()
                return
            self._waiting.append(gate)
        try:
            gate.acquire()
        except BaseException:  # Ctrl-C: leave the queue, or hand on the turn that came at the same moment
            self._leave(gate)
            raise

    def _leave(self, gate: Lock) -> None:
        with self._mutex:
            waits = gate in self._waiting
            if waits:
                self._waiting.remove(gate)
        if not waits:
            self._hand_on()

    def _hand_on(self) -> None:
        """To who has waited longest: it stays held, so that nobody slips in between."""
        with self._mutex:
            self._held_by = -1 if self._waiting else None
            if self._waiting:
                self._waiting.popleft().release()
