"""Groups of objects and their spatial relations to boxes that do not overlap.

Along each axis the relations are a partial order of the groups. Its ranks are the columns and rows of a grid, so that
what is left of something lies in a column before it; groups that no relation joins each get a part of the image.
"""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import combinations, permutations
from typing import Literal

from runtime.errors import RealCompoError
from runtime.layouts.geometry import Box

Kind = Literal["left of", "above", "on", "in front of", "next to"]  # others are these with the groups swapped
Side = Literal["left", "center", "right", "top", "middle", "bottom"]

CANVAS: Box = (0.04, 0.04, 0.96, 0.96)
MARGIN = 0.06  # of a cell, on each side of its box
SLIMMEST = 1.3  # at most, one side of a box to the other
FAR = 0.75  # size of what is behind something
COLUMNS: tuple[Side, Side, Side] = ("left", "center", "right")
ROWS: tuple[Side, Side, Side] = ("top", "middle", "bottom")


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


def place(groups: Sequence[Group], relations: Sequence[Relation]) -> list[list[Box]]:
    """The boxes of every group's objects: inside the image, apart from one another, and as the relations say.

    Raises:
        RealCompoError: relations that contradict each other.
    """
    components = _components(groups, relations)
    cells: dict[int, Box] = {}
    for members, area in zip(components, split(len(components), CANVAS), strict=True):
        cells |= _place_component(members, groups, relations, area)
    return [_objects(i, group, relations, cells[i]) for i, group in enumerate(groups)]


def split(count: int, area: Box, in_a_row: bool = False) -> list[Box]:
    """`count` cells, row by row, as nearly square as can be; the last row's are wider if it has fewer."""
    if in_a_row:
        return [_cell(area, (i, count), (0, 1)) for i in range(count)]
    x0, y0, x1, y1 = area
    width, height = x1 - x0, y1 - y0

    def slimness(rows: int) -> float:
        aspect = (width / -(-count // rows)) / (height / rows)
        return max(aspect, 1 / aspect)

    rows = min(range(1, count + 1), key=slimness)
    columns = -(-count // rows)
    rows = -(-count // columns)  # some of those asked for may be empty
    cells = []
    for row in range(rows):
        in_row = min(columns, count - row * columns)
        cells += [_cell(area, (column, in_row), (row, rows)) for column in range(in_row)]
    return cells


class Order:
    """A strict partial order of n groups along one axis; groups may be aligned, so that they rank alike."""

    def __init__(self, n: int) -> None:
        self._lines = [{i} for i in range(n)]  # what each group is aligned with
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
        """False, and nothing done, where that contradicts the order, or groups would be aligned along both axes."""
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


def _components(groups: Sequence[Group], relations: Sequence[Relation]) -> list[list[int]]:
    """Indices of the groups that are placed together: all of them, as soon as one belongs at a side of the image."""
    if any(group.sides for group in groups):
        return [list(range(len(groups)))]
    together = [{i} for i in range(len(groups))]
    for relation in relations:
        merged = together[relation.first] | together[relation.second]
        for i in merged:
            together[i] = merged
    return [sorted(members) for i, members in enumerate(together) if i == min(members)]


def _place_component(
    members: list[int], groups: Sequence[Group], relations: Sequence[Relation], area: Box
) -> dict[int, Box]:
    """A cell of the area for each member; those that nothing puts apart share one."""
    index = {member: i for i, member in enumerate(members)}
    inner = [replace(r, first=index[r.first], second=index[r.second]) for r in relations if r.first in index]
    chosen = [groups[member] for member in members]
    x, y = _orders(chosen, inner)
    columns, across = _center(x.ranks(), [group.sides for group in chosen], COLUMNS)
    rows, down = _center(y.ranks(), [group.sides for group in chosen], ROWS)
    cells: dict[int, Box] = {}
    for place in sorted(set(zip(columns, rows, strict=True))):
        sharers = [member for member, *its in zip(members, columns, rows, strict=True) if tuple(its) == place]
        cell = _cell(area, (place[0], across), (place[1], down))
        stand = any(r.kind == "on" and r.first in sharers for r in relations)
        cells |= zip(sharers, split(len(sharers), cell, in_a_row=stand), strict=True)
    return cells


def _orders(groups: Sequence[Group], relations: Sequence[Relation]) -> tuple[Order, Order]:
    """Left to right, and top to bottom: first what was said, then sides, then what looks best."""
    x, y = Order(len(groups)), Order(len(groups))
    for relation in relations:
        _say(relation, groups, x, y)
    beside = [(r.first, r.second) for r in relations if r.kind == "next to"]
    for a, b in beside:
        _put_beside(a, b, x)
    for a, b in _pairs_by_side(groups, COLUMNS):
        x.put_before(a, b)
    for a, b in _pairs_by_side(groups, ROWS):
        y.put_before(a, b)
    for r in relations:
        _ = y.align(r.first, r.second, x) if r.kind in ("left of", "next to") else x.align(r.first, r.second, y)
    while (clash := _clash(x, y, {i for pair in beside for i in pair})) is not None:
        _ = x.put_before(*clash) or y.put_before(*clash)
    return x, y


def _say(relation: Relation, groups: Sequence[Group], x: Order, y: Order) -> None:
    """Raises: RealCompoError: it contradicts an earlier one."""
    a, b = relation.first, relation.second
    match relation.kind:
        case "left of":
            fits = x.put_before(a, b)
        case "above" | "on":
            fits = y.put_before(a, b)
        case "in front of":
            fits = y.put_before(b, a)
        case "next to":
            fits = True
    if not fits:
        names = f"{groups[a].phrase!r} cannot be {relation.kind} {groups[b].phrase!r} as well"
        raise RealCompoError(f"the prompt's relations contradict each other: {names}; leave one out")


def _put_beside(a: int, b: int, x: Order) -> None:
    """To the left of b, unless that side is taken."""
    if x.is_first(b) or not x.is_last(b):
        _ = x.put_before(a, b) or x.put_before(b, a)
    else:
        _ = x.put_before(b, a) or x.put_before(a, b)


def _pairs_by_side(groups: Sequence[Group], sides: tuple[Side, Side, Side]) -> Iterator[tuple[int, int]]:
    """Pairs of which the first belongs before the second, for the sides where they are."""
    place = [next((i for i, side in enumerate(sides) if side in group.sides), 1) for group in groups]
    for a, b in permutations(range(len(groups)), 2):
        if place[a] < place[b]:
            yield a, b


def _clash(x: Order, y: Order, alone: AbstractSet[int]) -> tuple[int, int] | None:
    """The first two groups that would get the same cell, of which one must have a cell of its own.

    What is next to something shares no cell: in a part of one it might not lie beside the other any more.
    """
    cells = list(zip(x.ranks(), y.ranks(), strict=True))
    pairs = combinations(range(len(cells)), 2)
    return next(((a, b) for a, b in pairs if cells[a] == cells[b] and not alone.isdisjoint((a, b))), None)


def _center(
    ranks: list[int], sides: Sequence[frozenset[Side]], names: tuple[Side, Side, Side]
) -> tuple[list[int], int]:
    """Ranks and their number, after empty ones were added so that every side's groups are in their half."""
    total, shift = max(ranks) + 1, 0
    low, center, high = ([rank for rank, at in zip(ranks, sides, strict=True) if name in at] for name in names)
    if center:
        off = 2 * center[0] - (total - 1)
        total, shift = total + abs(off), max(0, -off)
    if low:
        total += max(0, 2 * (max(low) + shift) + 2 - total)
    if high:
        more = max(0, total - 2 * (min(high) + shift))
        total, shift = total + more, shift + more
    return [rank + shift for rank in ranks], total


def _cell(area: Box, column: tuple[int, int], row: tuple[int, int]) -> Box:
    """The i-th of n equal columns, and the i-th of n equal rows, of an area."""
    x0, y0, x1, y1 = area
    (i, columns), (j, rows) = column, row
    width, height = (x1 - x0) / columns, (y1 - y0) / rows
    return x0 + i * width, y0 + j * height, x0 + (i + 1) * width, y0 + (j + 1) * height


def _objects(i: int, group: Group, relations: Sequence[Relation], cell: Box) -> list[Box]:
    """Boxes of a group's objects, near to what they stand on or in front of."""
    as_first = {r.kind for r in relations if r.first == i}
    as_second = {r.kind for r in relations if r.second == i}
    stands, carries = "on" in as_first, "on" in as_second
    is_near, is_far = "in front of" in as_first, "in front of" in as_second
    down = 0.5 + 0.5 * (stands or is_far) - 0.5 * (carries or is_near)
    parts = split(group.count, cell, in_a_row=stands)
    return [_fit(part, down, carries, FAR if is_far else 1.0) for part in parts]


def _fit(cell: Box, down: float, fills_width: bool, scale: float) -> Box:
    """A box in a cell, `down` of the free height from its top; not too slim, unless it is to fill the width."""
    x0, y0, x1, y1 = cell
    room_x, room_y = (1 - 2 * MARGIN) * (x1 - x0), (1 - 2 * MARGIN) * (y1 - y0)
    width = scale * (room_x if fills_width else min(room_x, SLIMMEST * room_y))
    height = scale * min(room_y, SLIMMEST * room_x)
    left = (x0 + x1 - width) / 2
    top = y0 + MARGIN * (y1 - y0) + down * (room_y - height)
    edges = (left, top, left + width, top + height)
    return tuple(round(edge, 4) for edge in edges)  # type: ignore[return-value]
