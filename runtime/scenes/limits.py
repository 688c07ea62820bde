"""Systems of limits on differences of numbers, kept closed: what follows from them is always known."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.scenes.relations import Limit, Ways

AXES = 3
ROUNDING = 1e-9  # metres, or of the largest number where that is more
Most = NDArray[np.float64]


class System:
    """What limits leave of n places along three axes.

    The last index, n, stands for the origin.

    Args:
        most: (3,n+1,n+1): [axis, i, j] is the largest that place i less place j can be.
        rounding: how much two limits may contradict each other.
    """

    def __init__(self, most: Most, rounding: float) -> None:
        self.most = most
        self.rounding = rounding

    @classmethod
    def free(cls, count: int, rounding: float) -> "System":
        """Without any limit."""
        most = np.full((AXES, count + 1, count + 1), np.inf)
        most[:, range(count + 1), range(count + 1)] = 0
        return cls(most, rounding)

    def with_limits(self, limits: Iterable[Limit]) -> "System | None":
        """With more limits; None where they contradict what is known."""
        most = self.most.copy()
        for axis, first, second, value in limits:
            if value >= most[axis, first, second]:
                continue
            least = -most[axis, second, first]
            if value < least - self.rounding:
                return None
            through = most[axis, :, first, None] + max(value, least) + most[axis, None, second, :]
            most[axis] = np.minimum(most[axis], through)
        return System(most, self.rounding)

    def allows_any(self, ways: Ways) -> bool:
        """Whether one way or the other contradicts nothing."""
        return any(self.with_limits(limits) for limits in ways)


class Room:
    """What a closed system leaves of each place as one after the other is put somewhere."""

    def __init__(self, system: System) -> None:
        self._less, self._more = (list(one.copy()) for one in (system.most, system.most.transpose(0, 2, 1)))
        self._low, self._high = ([axis[-1] * sign for axis in one] for one, sign in ((self._less, -1), (self._more, 1)))

    def put(self, axis: int, i: int, place: float) -> float:
        """i as near to a place as it can be; the answer is where."""
        low, high = self._low[axis], self._high[axis]
        nearest = float(min(max(place, low[i]), high[i]))
        np.maximum(low, nearest - self._less[axis][i], out=low)
        np.minimum(high, nearest + self._more[axis][i], out=high)
        return nearest


class Choices:
    """Many relations' ways in one array, so that those which contradict a system at sight are found at once."""

    def __init__(self, every: Sequence[Ways]) -> None:
        limits = [
            (number, way, *limit) for number, ways in enumerate(every) for way, one in enumerate(ways) for limit in one
        ]
        self._numbers, self._ways, self._axes, self._first, self._second = (
            np.array([limit[column] for limit in limits], dtype=np.int64) for column in range(5)
        )
        self._values = np.array([limit[5] for limit in limits])
        self._every = every
        self._exists = np.zeros((len(every), max(map(len, every), default=0)), dtype=bool)
        for number, ways in enumerate(every):
            self._exists[number, : len(ways)] = True

    def left(self, system: System) -> NDArray[np.bool_]:
        """(relations, ways): whether none of a way's limits alone contradicts the system."""
        left = self._exists.copy()
        against = self._values < -system.most[self._axes, self._second, self._first] - system.rounding
        left[self._numbers[against], self._ways[against]] = False
        return left
