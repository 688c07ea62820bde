"""T2I-CompBench's rules, those of its UniDet evaluation (Karine-Huang/T2I-CompBench), asked of boxes.

Huang et al., "T2I-CompBench++: An Enhanced and Comprehensive Benchmark for Compositional Text-to-image Generation",
TPAMI 2025. The benchmark finds what a prompt asks in the prompt: so is it here, by patterns of its prompts alone.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.planning.cases import Counts, Figures
from runtime.layouts.geometry import Box
from runtime.layouts.layout import Layout, Region
from runtime.text.plurals import singular

APART = 0.1  # IoU of boxes that lie beside each other, at most
OVERLAPS = 0.5  # IoU from which one object is before another, at full score
NEAR = 150 / 512  # of the image
NUMBERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8}
SIDES = {  # of the phrase: along which axis, and in which direction, the first lies from the second
    "on the left of": (0, -1),
    "on the right of": (0, 1),
    "on the top of": (1, -1),
    "on top of": (1, -1),
    "on the bottom of": (1, 1),
}
BESIDE = ("on side of", "next to", "near")
DEPTHS = {"in front of": 1, "behind": -1, "hidden by": -1}  # whether the first is nearer
PHRASES = (*SIDES, *BESIDE, *DEPTHS)
PAIR = re.compile(rf"an? (.+?) ({'|'.join(PHRASES)}) an? (.+?)\W*", re.IGNORECASE)


@dataclass(frozen=True)
class Pair:
    """Exactly two regions, one of each object, the one where the phrase says."""

    prompt: str
    type: str  # the phrase
    first: str
    second: str

    @property
    def asked(self) -> str:
        return f"{self.first} {self.type} {self.second}, no more"

    def figures(self, layout: Layout) -> Figures:
        found = list(layout.regions)
        if len(found) == 2 and not _is(found[0], self.first):
            found.reverse()
        objects = len(found) == 2 and _is(found[0], self.first) and _is(found[1], self.second)
        return {"accuracy": float(objects and self._holds(*found)), "objects": float(objects)}

    def _holds(self, first: Region, second: Region) -> bool:
        a, b = first.bounding_box(), second.bounding_box()
        offset = [((a[i] + a[i + 2]) - (b[i] + b[i + 2])) / 2 for i in (0, 1)]
        if self.type in SIDES:
            axis, sign = SIDES[self.type]
            return sign * offset[axis] > abs(offset[1 - axis]) and overlap(a, b) < APART
        if self.type in DEPTHS:
            return overlap(a, b) > OVERLAPS and DEPTHS[self.type] * (first.layer - second.layer) > 0
        return min(map(abs, offset)) < NEAR


@dataclass(frozen=True)
class Numeracy(Counts):
    """As many regions of each object as the prompt says."""

    def figures(self, layout: Layout) -> Figures:
        met = [sum(_is(region, name) for region in layout.regions) == count for name, count in self.objects]
        return {"accuracy": float(all(met)), "counts": sum(met) / len(met)}


def pair_in(prompt: str) -> Pair | None:
    """What a prompt of the spatial and 3d_spatial sets asks; None of another prompt."""
    if not (found := PAIR.fullmatch(prompt)):
        return None
    first, phrase, second = (part.lower() for part in found.groups())
    return Pair(prompt, phrase, first, second)


def numeracy_in(prompts: Sequence[str]) -> list[Numeracy]:
    """What the prompts of the numeracy set ask; others are left out.

    "a" and "an" count before what other prompts of the set count in numbers: the benchmark has a list of these objects.
    """
    known = {singular(noun) for prompt in prompts for number, noun in _numbered(prompt) if number not in ("a", "an")}
    found = []
    for prompt in prompts:
        counts = Counter[str]()
        for number, noun in _numbered(prompt):
            if singular(noun) in known:
                counts[singular(noun)] += NUMBERS[number]
        if counts:
            found.append(Numeracy(prompt, f"{len(counts)} objects", tuple(counts.items())))
    return found


def _numbered(prompt: str) -> list[tuple[str, str]]:
    return re.findall(rf"\b({'|'.join(NUMBERS)}) (\w+)", prompt.lower())


def _is(region: Region, name: str) -> bool:
    """Whether a phrase is the name, but for its article and number."""
    words = region.phrase.lower().split()
    bare = words[1:] if words[0] in ("a", "an", "the") else words
    return name in (" ".join(bare), " ".join((*bare[:-1], singular(bare[-1])))) if bare else False


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    width, height = (max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    areas = sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (a, b))
    return width * height / (areas - width * height)
