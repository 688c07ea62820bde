"""What the solver is asked: objects' sizes, places that were given, relations, and from where it is looked at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from runtime.scenes.limits import ROUNDING
from runtime.scenes.relations import RELATIONS, Two, Ways
from runtime.scenes.sight import Eye

TOUCHING = 10  # times the rounding that two may overlap

Places = NDArray[np.float64]  # (n,3): of the objects' middles to the right, up and nearer


@dataclass(frozen=True, eq=False)
class Link:
    """A relation between two objects, and the field that it stands in.

    Args:
        spot: (2,) where the subject looks best on the object: its middle less the object's, to the right and nearer.
    """

    relation: str
    two: Two
    field: str
    spot: NDArray[np.float64] | None = None

    @cached_property
    def ways(self) -> Ways:
        return RELATIONS[self.relation].ways(self.two)

    def other(self, i: int) -> int | None:
        """The object that i is related to, if it is one of the two."""
        return {self.two.subject: self.two.object, self.two.object: self.two.subject}.get(i)


@dataclass(frozen=True, eq=False)
class Problem:
    """What is to be placed.

    Args:
        names: of the objects, for errors.
        sizes: (n,3) along the axes.
        fixed: places that were given, by index.
        links: relations.
        eye: from where it is looked at; None from so far away that nothing looks smaller behind.
    """

    names: Sequence[str]
    sizes: NDArray[np.float64]
    fixed: Mapping[int, NDArray[np.float64]]
    links: Sequence[Link]
    eye: Eye | None = None

    @cached_property
    def rounding(self) -> float:
        """What sums of the numbers may be off, in metres."""
        gaps = [link.two.gap or 0.0 for link in self.links]
        numbers = np.concatenate([self.sizes.ravel(), gaps, *map(abs, self.fixed.values())])
        return ROUNDING * max(1.0, float(numbers.max()))

    @cached_property
    def touching(self) -> NDArray[np.float64]:
        """(3,n,n): how near the middles of two are that overlap, if along all axes; none is where both were put so."""
        touching = (self.sizes[:, None] + self.sizes[None]) / 2 - TOUCHING * self.rounding
        is_fixed = np.isin(np.arange(len(self.names)), list(self.fixed))
        both = np.outer(is_fixed, is_fixed) | np.eye(len(self.names), dtype=bool)
        return np.where(both[..., None], -np.inf, touching).transpose(2, 0, 1)

    @cached_property
    def links_of(self) -> list[list[tuple[Link, int]]]:
        """Each object's relations, with the other object of each."""
        return [
            [(link, other) for link in self.links if (other := link.other(i)) is not None]
            for i in range(len(self.names))
        ]

    @cached_property
    def order(self) -> list[int]:
        """Given places first; then always the first that is related to one before it, if any is."""
        left = [*self.fixed, *(i for i in range(len(self.names)) if i not in self.fixed)]
        found: list[int] = []
        while left:
            fixed = [i for i in left if i in self.fixed]
            related = [i for i in left if any(other in found for _, other in self.links_of[i])]
            found.append((fixed or related or left)[0])
            left.remove(found[-1])
        return found
