"""Systems of limits on differences of numbers, kept closed: what follows from them is always known."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from runtime.scenes.relations import Limit

AXES = 3
ROUNDING = 1e-9  # metres


class System:
    """What limits leave of n places along three axes.

    The last index, n, stands for the origin. `most[axis, i, j]` is the largest that place i less place j can be.
    """

    def __init__(self, most: NDArray[np.float64]) -> None:
        self._most = most

    @classmethod
    def free(cls, count: int) -> "System":
        """Without any limit."""
        most = np.full((AXES, count + 1, count + 1), np.inf)
        most[:, range(count + 1), range(count + 1)] = 0
        return cls(most)

    def with_limits(self, limits: Iterable[Limit]) -> "System | None":
        """With more limits; None where they contradict what is known."""
        most = self._most.copy()
        for axis, first, second, value in limits:
            least = -most[axis, second, first]
            if value < least - ROUNDING:
                return None
            through = most[axis, :, first, None] + max(value, least) + most[axis, None, second, :]
            most[axis] = np.minimum(most[axis], through)
        return System(most)

    def at(self, axis: int, i: int, place: float) -> "tuple[float, System]":
        """The nearest that i can be to a place, and the system with i there."""
        nearest = float(np.clip(place, -self._most[axis, -1, i], self._most[axis, i, -1]))
        fixed = self.with_limits([Limit(axis, i, -1, nearest), Limit(axis, -1, i, -nearest)])
        assert fixed is not None, "a place within a closed system's limits contradicts none of them"
        return nearest, fixed
