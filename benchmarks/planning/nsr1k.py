"""NSR-1K's rules, those of LayoutGPT's `eval_counting_layout.py` and `eval_spatial_layout.py` (weixi-feng/LayoutGPT).

Feng et al., "LayoutGPT: Compositional Visual Planning and Generation with Large Language Models", NeurIPS 2023.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from benchmarks.planning.cases import Counts, Figures
from runtime.layouts.geometry import Box
from runtime.layouts.layout import Layout, Region
from runtime.text.plurals import singular

COMPARISON = "comparison"  # the type whose second count follows from a relation
DIAGONAL = math.sqrt(2) / 2
BESIDE = {"left", "right"}


@dataclass(frozen=True)
class Counting(Counts):
    """So many of each object.

    In a comparison the first count must be right and the second more, fewer or as many. Precision, recall, intersection
    over union and mean absolute error are of all other types.
    """

    def figures(self, layout: Layout) -> Figures:
        found = Counter(self._category(region.phrase) for region in layout.regions)
        pairs = [(found[name], count) for name, count in self.objects]
        if self.type == COMPARISON:
            return {"accuracy": float(_compares(*pairs))}
        met, missed = (sum(pick(pair) for pair in pairs) for pick in (min, max))
        return {
            "accuracy": float(all(planned == asked for planned, asked in pairs)),
            "precision": met / found.total() if met else 0.0,
            "recall": met / sum(asked for _, asked in pairs) if met else 0.0,
            "IoU": met / missed if met else 0.0,
            "MAE": sum(abs(planned - asked) for planned, asked in pairs) / max(len(pairs), 1),
        }

    def _category(self, phrase: str) -> str:
        """The asked object whose name contains a phrase or is contained in it, or else the phrase.

        The leading letters are taken off as LayoutGPT does it, which eats into "apple" too, harmlessly.
        """
        category = phrase.lower()
        for name, _ in self.objects:
            bare = category.lstrip("a ").lstrip("an ").lstrip("the ")
            category = name if bare in name or name in bare else category
        return category


def _compares(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Pairs of planned and asked counts."""
    if first[1] == second[1]:
        return first[0] == first[1] == second[0]
    return first[0] == first[1] and (first[1] - second[1]) * (first[0] - second[0]) > 0


@dataclass(frozen=True)
class Spatial:
    """One object left of, right of, above ("top"), below ("bottom") or next to another.

    Any pair of regions of the two will do. LayoutGPT's own layouts carry bare names, and it takes the regions whose
    name is closest in spelling: "strict" is that rule. Phrases have adjectives, so that here a region whose phrase has
    the name among its words is the object's, too.
    """

    prompt: str
    type: str
    first: str
    second: str
    relation: str

    @property
    def asked(self) -> str:
        return f"{self.first} {self.relation} {self.second}"

    def figures(self, layout: Layout) -> Figures:
        phrases = [region.phrase.lower() for region in layout.regions]
        named = [_named(name, phrases) for name in (self.first, self.second)]
        close = [_closest(name, phrases) for name in (self.first, self.second)]
        either = [by_name or by_spelling for by_name, by_spelling in zip(named, close, strict=True)]
        return {
            "accuracy": float(self._holds(layout.regions, *either)),
            "strict": float(self._holds(layout.regions, *close)),
            "missing": float(not all(either)),
        }

    def _holds(self, regions: Sequence[Region], first: Iterable[int], second: Sequence[int]) -> bool:
        box = [region.bounding_box() for region in regions]
        relations = {relation_of(box[i], box[j]) for i in first for j in second}
        return self.relation in relations or (self.relation == "next to" and not BESIDE.isdisjoint(relations))


def _named(name: str, phrases: Sequence[str]) -> list[int]:
    """The phrases that have the name's words side by side, a possessive's too."""
    words = [singular(word) for word in name.split()]
    found = []
    for i, phrase in enumerate(phrases):
        said = [singular(word) for word in phrase.replace("'s", "").split()]
        if any(said[j : j + len(words)] == words for j in range(len(said))):
            found.append(i)
    return found


def _closest(name: str, phrases: Sequence[str]) -> list[int]:
    best = get_close_matches(name, phrases)[:1]
    return [i for i, phrase in enumerate(phrases) if phrase in best]


def relation_of(first: Box, second: Box) -> str:
    """Where the first box's centre lies of the second's: within 45 degrees of a side, or else "diagonal"."""
    x, y = (((a + b) - (c + d)) / 2 for a, b, c, d in zip(first[:2], first[2:], second[:2], second[2:], strict=True))
    distance = math.hypot(x, y)
    if distance == 0:
        return "diagonal"
    sides = (("right", x), ("top", -y), ("left", -x), ("bottom", y))
    return next((side for side, along in sides if along / distance > DIAGONAL), "diagonal")
