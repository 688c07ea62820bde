"""A partial order of things along one axis."""


class Order:
    """A strict partial order of n things along one axis; some may be aligned, so that they rank alike."""

    def __init__(self, n: int) -> None:
        self._lines = [{i} for i in range(n)]  # what each thing is aligned with
        self._after: list[set[int]] = [set() for _ in range(n)]

    def is_before(self, a: int, b: int) -> bool:
        reached, latest = set[int](), self._next(a)
        while latest:
            reached |= latest
            latest = set().union(*map(self._next, latest)) - reached
        return not reached.isdisjoint(self._lines[b])

    def are_aligned(self, a: int, b: int) -> bool:
        return b in self._lines[a]

    def is_first(self, i: int) -> bool:
        return not any(self.is_before(j, i) for j in range(len(self._lines)))

    def is_last(self, i: int) -> bool:
        return not self._next(i)

    def put_before(self, a: int, b: int) -> bool:
        """False, and nothing done, where that contradicts what is known."""
        if self.are_aligned(a, b) or self.is_before(b, a):
            return False
        self._after[a].add(b)
        return True

    def align(self, a: int, b: int, across: "Order") -> bool:
        """False, and nothing done, where that contradicts the order, or things would be aligned along both axes."""
        merged = self._lines[a] | self._lines[b]
        if self.is_before(a, b) or self.is_before(b, a):
            return False
        if not self.are_aligned(a, b) and any(across.are_aligned(i, j) for i in self._lines[a] for j in self._lines[b]):
            return False
        for i in merged:
            self._lines[i] = merged
        return True

    def ranks(self) -> list[int]:
        """0 for what has nothing before it, or else one more than the last thing before it."""
        n = len(self._lines)
        found: dict[int, int] = {}

        def rank(i: int) -> int:
            line = min(self._lines[i])
            if line not in found:
                before = [j for j in range(n) if self._next(j) & self._lines[i]]
                found[line] = max((rank(j) + 1 for j in before), default=0)
            return found[line]

        return [rank(i) for i in range(n)]

    def _next(self, i: int) -> set[int]:
        return set().union(*(self._after[j] for j in self._lines[i]))
