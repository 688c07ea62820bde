"""Scores of 3D scenes as tables."""

from collections.abc import Sequence

from benchmarks.grids import Grid
from benchmarks.scenes.measure import Row
from benchmarks.study.statistics import Estimate
from benchmarks.tabletop.scenes import KINDS


def grids(rows: Sequence[Row], scenes: int) -> list[Grid]:
    """Scores, and the share of objects in their box by kind, with 95% intervals."""
    scores = [(row.mode, row.depth, *map(_shown, row.scores.values())) for row in rows]
    kinds = [(row.mode, row.depth, *(_shown(row.in_box_of[kind]) for kind in KINDS)) for row in rows]
    numbers = [f"{kind}, n={rows[0].in_box_of[kind].n}" for kind in KINDS]
    named = [name.replace("_", " ") for name in rows[0].scores]
    return [
        Grid(f"{scenes} 3D scenes", ("", "depth", *named), scores),
        Grid("in box, by kind", ("", "depth", *numbers), kinds),
    ]


def _shown(one: Estimate) -> str:
    return f"{one.mean:.3f} ({one.low:.3f} to {one.high:.3f})" if one.n else ""
