"""What a prompt says of groups of objects: how many, where, and how they stand to one another."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from runtime.errors import RealCompoError

# others are these with the groups swapped
Kind = Literal["left of", "above", "on top of", "on", "in", "in front of", "next to"]
Side = Literal["left", "center", "right", "top", "middle", "bottom"]
NESTED = ("on", "in")  # of which the first lies within the second
DEEPEST = 5  # boxes within one another, but for the outermost


@dataclass(frozen=True)
class Relation:
    """Group `first` is `kind` group `second`, by index."""

    kind: Kind
    first: int
    second: int


@dataclass(frozen=True)
class Group:
    """So many objects of one phrase, and the sides of the image where the prompt has them."""

    phrase: str
    count: int = 1
    sides: frozenset[Side] = frozenset()


class Nests:
    """Which group lies within which, and what that leaves of the relations.

    Args:
        relations: all that was said.

    Raises:
        RealCompoError: what is in something cannot be beside it too.
    """

    def __init__(self, groups: Sequence[Group], relations: Sequence[Relation]) -> None:
        self._hosts: dict[int, int] = {}
        self.relations: list[Relation] = []  # those that are no nests
        self._kinds: dict[int, Kind] = {}
        apart = [relation for relation in relations if relation.kind not in NESTED]
        for relation in relations:
            if relation.kind not in NESTED:
                self.relations.append(relation)
            elif _joins(apart, relation.first, relation.second):
                self.relations.append(_unnested(relation, groups))
            elif self._fits(relation.first, relation.second):
                self._hosts[relation.first] = relation.second
                self._kinds[relation.first] = relation.kind
            elif relation.kind == "on" and relation.first not in self._hosts:
                self.relations.append(replace(relation, kind="on top of"))

    def host(self, i: int) -> int | None:
        return self._hosts.get(i)

    def kind(self, i: int) -> Kind:
        return self._kinds[i]

    def chain(self, i: int) -> list[int]:
        """The group, its host, that one's host, and so on."""
        found = [i]
        while (host := self._hosts.get(found[-1])) is not None:
            found.append(host)
        return found

    def within(self, i: int) -> list[int]:
        """The group, and all that lies within it."""
        return [i] + [inner for inner in self._hosts if i in self.chain(inner)[1:]]

    def _fits(self, inner: int, outer: int) -> bool:
        if inner in self._hosts or inner in self.chain(outer):
            return False
        deepest = max(len(self.chain(i)) for i in self.within(inner)) + len(self.chain(outer))
        return deepest <= DEEPEST + 1


def _unnested(relation: Relation, groups: Sequence[Group]) -> Relation:
    """Of what has an order already, the relation that agrees with one: on something is above it, too."""
    if relation.kind == "in":
        raise contradiction(groups, relation)
    return replace(relation, kind="on top of")


def _joins(relations: Sequence[Relation], a: int, b: int) -> bool:
    """Whether a chain of relations leads from one to the other, always the same way, or a single one does."""
    return _leads(relations, a, b) or _leads(relations, b, a)


def _leads(relations: Sequence[Relation], a: int, b: int) -> bool:
    reached, latest = set[int](), {a}
    while latest:
        latest = {relation.second for relation in relations if relation.first in latest} - reached
        reached |= latest
    return b in reached


def contradiction(groups: Sequence[Group], relation: Relation) -> RealCompoError:
    """The error for what earlier relations forbid."""
    first, second = groups[relation.first].phrase, groups[relation.second].phrase
    names = f"{first!r} cannot be {relation.kind} {second!r} as well"
    return RealCompoError(f"the prompt's relations contradict each other: {names}; leave one out")
