from collections.abc import Callable
from typing import Any

seen: list[tuple[int, int, Any]] = []  # value, total, preview of each move of a bar
then: Callable[[int], None] | None = None


class ProgressBar:
    def __init__(self, total: int, node_id: Any = None) -> None:
        self.total = total

    def update_absolute(self, value: int, total: int | None = None, preview: Any = None) -> None:
        seen.append((value, total or self.total, preview))
        if then:
            then(value)
