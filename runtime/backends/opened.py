"""Engines that are opened when they are first called for."""

from collections.abc import Callable, Mapping
from threading import Lock

from runtime.errors import RealCompoError
from runtime.runner import Runner
from runtime.words import Role


class Opened(dict[Role, Runner]):
    """The engines of a bundle that are open; asking for another of those that it may open opens it."""

    def __init__(self, openers: Mapping[Role, Callable[[], Runner]]) -> None:
        """`openers` open an engine each."""
        super().__init__()
        self._openers = dict(openers)
        self._lock = Lock()

    def __missing__(self, role: Role) -> Runner:
        """Raises: RealCompoError: it is left out, or does not load."""
        if role not in self._openers:
            raise RealCompoError(f"the engine {role} is left out by modes; load the bundle with a mode that takes it")
        with self._lock:  # two threads of one run may ask at once
            if role not in self:
                self[role] = self._openers[role]()
        return self[role]
