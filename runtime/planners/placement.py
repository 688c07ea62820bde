"""Groups of objects and their spatial relations to boxes.

Along each axis the relations are a partial order of the groups. Its ranks are the columns and rows of a grid, so that
what is left of something lies in a column before it; groups that no relation joins each get a part of the image. What
is in or on something lies within its box. What is in front of something shares its cell, overlaps it and lies on a
higher layer.
"""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import combinations, pairwise, permutations, product

from runtime.layouts.geometry import Box
from runtime.planners.cells import MARGIN, cell_of, fit, part_of, rounded, split
from runtime.planners.order import Order
from runtime.planners.relations import Group, Kind, Nests, Relation, Side, contradiction
from runtime.planners.stacks import Stacks

CANVAS: Box = (0.04, 0.04, 0.96, 0.96)
FAR = 0.9  # size of what is behind something, to that
STEP = 0.2  # by how much of its height what is behind something is higher
APART = 0.75  # size of what is behind something where it may not overlap that
# What a box has room for inside, in fractions of it.
WITHIN: Mapping[Kind, Box] = {"on": (0.06, 0.02, 0.94, 0.6), "in": (0.1, 0.06, 0.9, 0.9)}
SHARED: Mapping[Kind, Box] = {"on": (0.06, 0.02, 0.94, 0.46), "in": (0.1, 0.5, 0.9, 0.94)}  # where there are both
ALONE_ON: Box = (0.04, 0.06, 0.5, 0.66)  # room for a single thing, off the middle, which it would hide
COLUMNS: tuple[Side, Side, Side] = ("left", "center", "right")
ROWS: tuple[Side, Side, Side] = ("top", "middle", "bottom")


@dataclass(frozen=True)
class Placed:
    """A group's boxes, and their layer: the higher covers the lower."""

    boxes: tuple[Box, ...]
    layer: int = 0


def place(groups: Sequence[Group], relations: Sequence[Relation]) -> list[Placed]:
    """The place of every group: inside the image, as the relations say, apart from others where none overlaps them.

    Raises:
        RealCompoError: relations that contradict each other.
    """
    scene = _Scene(groups, Nests(groups, relations))
    boxes = scene.place(list(range(len(groups))), CANVAS)
    layers = scene.layers()
    return [Placed(tuple(boxes[i]), layers[i]) for i in range(len(groups))]


Boxes = dict[int, list[Box]]  # of each group


class _Scene:
    """Places groups in an area, then what lies within them in their boxes, and so on."""

    def __init__(self, groups: Sequence[Group], nests: Nests) -> None:
        self._groups = groups
        self._nests = nests
        self._overlaps: list[tuple[int, int]] = []  # of groups, the nearer first

    def place(self, members: Sequence[int], area: Box, counts: Mapping[int, int] | None = None) -> Boxes:
        """Boxes of the members, those included that lie within others of them."""
        counts = counts or {i: self._groups[i].count for i in members}
        outer = [i for i in members if self._nests.host(i) not in members]
        inner = [self._lifted(relation, outer) for relation in self._nests.relations]
        among = [r for r in inner if r.first in outer and r.second in outer and r.first != r.second]
        chosen = {i: replace(self._with_sides(i), count=counts[i]) for i in outer}
        components = _components(chosen, among)
        boxes: Boxes = {}
        for component, part in zip(components, split(len(components), area), strict=True):
            boxes |= self._place_component({i: chosen[i] for i in component}, among, part)
        for i in outer:
            boxes |= self._place_within(i, members, boxes[i], counts)
        return boxes

    def layers(self) -> dict[int, int]:
        """Of every group: above its host, and above all that it is in front of."""
        layers = dict.fromkeys(range(len(self._groups)), 0)
        pairs = [(i, host) for i in layers if (host := self._nests.host(i)) is not None]
        for front, back in self._overlaps:
            pairs += [(i, j) for i in self._nests.within(front) for j in self._nests.within(back)]
        for _ in layers:
            for higher, lower in pairs:
                layers[higher] = max(layers[higher], layers[lower] + 1)
        return layers

    def _lifted(self, relation: Relation, outer: Sequence[int]) -> Relation:
        """The relation between those of the outer groups that hold its groups."""
        first, second = (
            next((i for i in self._nests.chain(end) if i in outer), end) for end in (relation.first, relation.second)
        )
        return replace(relation, first=first, second=second)

    def _with_sides(self, i: int) -> Group:
        """The group, at its own side of the image or those of what it holds."""
        sides = frozenset[Side]().union(*(self._groups[j].sides for j in self._nests.within(i)))
        return replace(self._groups[i], sides=sides)

    def _place_within(self, i: int, members: Sequence[int], boxes: Sequence[Box], counts: Mapping[int, int]) -> Boxes:
        """What lies within a group, dealt out over its boxes."""
        found: Boxes = {}
        inner = [j for j in members if j != i and i in self._nests.chain(j)]
        shares = self._deal(i, inner, counts, len(boxes))
        kinds = {self._nests.kind(j) for j in inner if self._nests.host(j) == i}
        for k, box in enumerate(boxes):
            for kind in kinds:
                some = {j: shares[j][k] for j in inner if shares[j][k] and self._nests.kind(self._child(j, i)) == kind}
                single = sum(count for j, count in some.items() if self._nests.host(j) == i) == 1
                placed = self.place(list(some), part_of(box, _room(kind, kinds, single)), some) if some else {}
                for j, its in placed.items():
                    found.setdefault(j, []).extend(its)
        return found

    def _child(self, j: int, i: int) -> int:
        """What lies directly in group i, and is group j or holds it."""
        chain = self._nests.chain(j)
        return chain[chain.index(i) - 1]

    def _deal(self, i: int, inner: Sequence[int], counts: Mapping[int, int], boxes: int) -> dict[int, list[int]]:
        """How many of each inner group each of a host's boxes gets: with those that hold them, where others do."""
        shares: dict[int, list[int]] = {}
        for j in sorted(inner, key=lambda j: len(self._nests.chain(j))):
            host = self._nests.host(j)
            held = [k for k in range(boxes) if host == i or host is None or host not in shares or shares[host][k]]
            shares[j] = [len(range(held.index(k), counts[j], len(held))) if k in held else 0 for k in range(boxes)]
        return shares

    def _place_component(self, groups: Mapping[int, Group], relations: Sequence[Relation], area: Box) -> Boxes:
        """Boxes of the groups in the cells of a grid; those that nothing puts apart share one."""
        inner = [r for r in relations if r.first in groups]
        stacks = Stacks(groups, inner, self._groups)
        cells = _cells(stacks, area)
        boxes: Boxes = {}
        for stack, cell in zip(stacks.members, cells, strict=True):
            if len(stack) > 1:
                ranks = stacks.by_depth(stack)
                boxes |= _overlapping(ranks, groups, cell)
                self._overlaps += [pair for front, back in pairwise(ranks) for pair in product(front, back)]
            else:
                (i,) = stack
                boxes[i] = _objects(i, groups[i], stacks.said, cell)
        return boxes


def _room(kind: Kind, kinds: AbstractSet[Kind], single: bool) -> Box:
    """Where in a host's box things of a kind have room."""
    if len(kinds) > 1:
        return SHARED[kind]
    return ALONE_ON if kind == "on" and single else WITHIN[kind]


def _components(groups: Mapping[int, Group], relations: Sequence[Relation]) -> list[list[int]]:
    """The groups that are placed together: all of them, as soon as one belongs at a side of the image."""
    if any(group.sides for group in groups.values()):
        return [list(groups)]
    together = {i: {i} for i in groups}
    for relation in relations:
        merged = together[relation.first] | together[relation.second]
        for i in merged:
            together[i] = merged
    return [sorted(members) for i, members in together.items() if i == min(members)]


def _cells(stacks: Stacks, area: Box) -> list[Box]:
    """A cell of the area for each stack."""
    relations = [replace(r, first=stacks.index(r.first), second=stacks.index(r.second)) for r in stacks.said]
    sides = [frozenset[Side]().union(*(stacks.groups[i].sides for i in stack)) for stack in stacks.members]
    x, y = _orders(sides, list(zip(relations, stacks.said, strict=True)), stacks.names)
    columns, across = _center(x.ranks(), sides, COLUMNS)
    rows, down = _center(y.ranks(), sides, ROWS)
    places = list(zip(columns, rows, strict=True))
    cells: dict[int, Box] = {}
    for place in sorted(set(places)):
        sharers = [k for k, its in enumerate(places) if its == place]
        stand = any(r.kind == "on top of" and r.first in sharers for r in relations)
        cell = cell_of(area, (place[0], across), (place[1], down))
        cells |= zip(sharers, split(len(sharers), cell, in_a_row=stand), strict=True)
    return [cells[k] for k in range(len(places))]


def _orders(
    sides: Sequence[frozenset[Side]], relations: Sequence[tuple[Relation, Relation]], names: Sequence[Group]
) -> tuple[Order, Order]:
    """Left to right, and top to bottom: first what was said, then sides, then what looks best.

    Args:
        sides: of the image, for each thing to be ordered.
        relations: between these things, each with the one that was said of groups.
        names: the groups that were spoken of.
    """
    x, y = Order(len(sides)), Order(len(sides))
    for relation, said in relations:
        if not _say(relation, x, y):
            raise contradiction(names, said)
    told = [relation for relation, _ in relations]
    beside = [(r.first, r.second) for r in told if r.kind == "next to"]
    for a, b in beside:
        _put_beside(a, b, x)
    for a, b in _pairs_by_side(sides, COLUMNS):
        x.put_before(a, b)
    for a, b in _pairs_by_side(sides, ROWS):
        y.put_before(a, b)
    for r in told:
        _ = y.align(r.first, r.second, x) if r.kind in ("left of", "next to") else x.align(r.first, r.second, y)
    while (clash := _clash(x, y, {i for pair in beside for i in pair})) is not None:
        _ = x.put_before(*clash) or y.put_before(*clash)
    return x, y


def _say(relation: Relation, x: Order, y: Order) -> bool:
    """False where it contradicts an earlier one."""
    a, b = relation.first, relation.second
    match relation.kind:
        case "left of":
            return x.put_before(a, b)
        case "above" | "on top of":
            return y.put_before(a, b)
        case "in front of":
            return y.put_before(b, a)
    return a != b


def _put_beside(a: int, b: int, x: Order) -> None:
    """To the left of b, unless that side is taken."""
    if x.is_first(b) or not x.is_last(b):
        _ = x.put_before(a, b) or x.put_before(b, a)
    else:
        _ = x.put_before(b, a) or x.put_before(a, b)


def _pairs_by_side(sides: Sequence[frozenset[Side]], names: tuple[Side, Side, Side]) -> Iterator[tuple[int, int]]:
    """Pairs of which the first belongs before the second, for the sides where they are."""
    place = [next((i for i, side in enumerate(names) if side in its), 1) for its in sides]
    for a, b in permutations(range(len(sides)), 2):
        if place[a] < place[b]:
            yield a, b


def _clash(x: Order, y: Order, alone: AbstractSet[int]) -> tuple[int, int] | None:
    """The first two that would get the same cell, of which one must have a cell of its own.

    What is next to something shares no cell: in a part of one it might not lie beside the other any more.
    """
    cells = list(zip(x.ranks(), y.ranks(), strict=True))
    pairs = combinations(range(len(cells)), 2)
    return next(((a, b) for a, b in pairs if cells[a] == cells[b] and not alone.isdisjoint((a, b))), None)


def _center(
    ranks: list[int], sides: Sequence[frozenset[Side]], names: tuple[Side, Side, Side]
) -> tuple[list[int], int]:
    """Ranks and their number, after empty ones were added so that every side's things are in their half."""
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


def _overlapping(ranks: Sequence[Sequence[int]], groups: Mapping[int, Group], cell: Box) -> Boxes:
    """Boxes of groups that overlap, the nearest first: each rank higher and smaller than the one in front of it."""
    area, boxes = fit(cell, 0.5, False, 1.0), {}
    front = 1 / (1 + STEP * (len(ranks) - 1))  # size of the nearest, to the area
    for rank, members in enumerate(ranks):
        top, size = (len(ranks) - 1 - rank) * STEP * front, FAR**rank
        across = (1 - size) / 2
        place = part_of(area, (across, top, 1 - across, top + size * front))
        for i, part in zip(members, split(len(members), place, in_a_row=True), strict=True):
            cells = split(groups[i].count, part)
            margin = MARGIN if len(members) > 1 else 0.0
            whole = rounded(part_of(part, (margin, 0, 1 - margin, 1)))  # as high as what stands beside it
            boxes[i] = [whole] if len(cells) == 1 else [fit(one, 0.0 if rank else 1.0, False, 1.0) for one in cells]
    return boxes


def _objects(i: int, group: Group, relations: Sequence[Relation], cell: Box) -> list[Box]:
    """Boxes of a group's objects, near to what they stand on or in front of."""
    as_first = {r.kind for r in relations if r.first == i}
    as_second = {r.kind for r in relations if r.second == i}
    stands, carries = "on top of" in as_first, "on top of" in as_second
    is_near, is_far = "in front of" in as_first, "in front of" in as_second
    down = 0.5 + 0.5 * (stands or is_far) - 0.5 * (carries or is_near)
    parts = split(group.count, cell, in_a_row=stands)
    return [fit(part, down, carries, APART if is_far else 1.0) for part in parts]
