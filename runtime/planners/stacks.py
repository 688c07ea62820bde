"""Groups that share a cell of the grid, because one is in front of another."""

from collections.abc import Mapping, Sequence

from runtime.planners.order import Order
from runtime.planners.relations import Group, Relation, contradiction


class Stacks:
    """Groups that share a cell because one is in front of another; most are alone in theirs."""

    def __init__(self, groups: Mapping[int, Group], relations: Sequence[Relation], names: Sequence[Group]) -> None:
        self.groups, self.names = groups, names
        self.members = [[i] for i in groups]
        self.overlaps: list[tuple[int, int]] = []
        self.said = [r for r in relations if r.kind != "in front of"]
        for relation in relations:
            if relation.kind == "in front of":
                self._join(relation)

    def index(self, i: int) -> int:
        return next(k for k, stack in enumerate(self.members) if i in stack)

    def by_depth(self, stack: Sequence[int]) -> list[list[int]]:
        """The stack's groups, the nearest first."""
        ranks = self._depth().ranks()
        order = list(self.groups)
        return [
            [i for i in stack if ranks[order.index(i)] == rank]
            for rank in sorted({ranks[order.index(i)] for i in stack})
        ]

    def _join(self, relation: Relation) -> None:
        """Put two stacks into one, unless something was said of how they lie beside each other."""
        first, second = self.index(relation.first), self.index(relation.second)
        order = self._depth()
        keys = list(self.groups)
        if not order.put_before(keys.index(relation.first), keys.index(relation.second)):
            raise contradiction(self.names, relation)
        if first != second and self._are_apart(first, second):
            self.said.append(relation)
            return
        self.overlaps.append((relation.first, relation.second))
        if first != second:
            self.members[first] = self.members[first] + self.members[second]
            del self.members[second]

    def _depth(self) -> Order:
        order, keys = Order(len(self.groups)), list(self.groups)
        for front, back in self.overlaps:
            order.put_before(keys.index(front), keys.index(back))
        return order

    def _are_apart(self, a: int, b: int) -> bool:
        """Whether the relations lead from one stack to another, by whatever way: they may then lie anywhere."""
        reached, latest = {a}, {a}
        while latest:
            pairs = [(self.index(r.first), self.index(r.second)) for r in self.said]
            latest = {q for p, q in pairs if p in latest} | {p for p, q in pairs if q in latest}
            latest -= reached
            reached |= latest
        return b in reached
