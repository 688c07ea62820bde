"""A study as tables. Every mean has its 95% interval beside it."""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.grids import Grid, Result
from benchmarks.study.looking import MEAN
from benchmarks.study.scorers import SCORES

HEADS = tuple(name.replace("_", " ") for name in SCORES)
SOURCES = {"noised": "Maps of noised pictures", "drawing": "Maps while drawing"}
LOOKED_AT = {"lift": "lift", "pointing game": "pointing", "AUC": "auc"}
LAYER_END = ".transformer_blocks.0.attn2"
TRUTHS = {"region": "the region", "found": "where it is found"}


def grids(found: Result) -> list[Grid]:
    """The tables in the order of the questions: those that everybody wants to see."""
    return [*map_grids(found, "noised"), front_grid(found), gain_grid(found), placebo_grid(found)]


def details(found: Result) -> list[Grid]:
    """By kind of composition, maps by layer and while drawing."""
    groups = [_group_grid(found, group) for group, by in found["rows"][0]["by"].items() if by]
    return [*groups, *map_grids(found, "noised", layers=True), *map_grids(found, "drawing")]


def front_grid(found: Result) -> Grid:
    rows = [(row["name"], *scores_of(row), f"{row['seconds']:.2f}", f"{row['unet_rows']:g}") for row in found["rows"]]
    columns = ("drawn by", *HEADS, "seconds", "UNet rows")
    return Grid(f"Each alone, together, and cheaper: {_counted(found['n'])}", columns, rows)


def gain_grid(found: Result) -> Grid:
    rows = [(f"{gain['best']}, equal {gain['equal']}", *differences_of(gain["exact_minus"])) for gain in found["gains"]]
    title = f"Is it the balancer? exact's best less the others' best, paired: {_counted(found['n'])}"
    return Grid(title, (f"{found['gains'][0]['of']} less", *HEADS), rows)


def placebo_grid(found: Result) -> Grid:
    others = {name: row for name, row in found["placebo"].items() if name != "exact"}
    rows = [(name, *differences_of(row["exact_minus"])) for name, row in others.items()]
    title = f"Does the gradient carry information? exact less other gradients, paired: {_counted(found['n'])}"
    return Grid(title, ("gradient", *HEADS), rows)


def map_grids(found: Result, source: str, layers: bool = False) -> Iterator[Grid]:
    """What maps knew, of layers or of their mean; none where nobody looked."""
    looks = [look for look in found["maps"] if look["source"] == source and (look["layer"] != MEAN) == layers]
    if looks:
        columns = ("maps of", *(["layer"] if layers else []), "against", "timestep", *LOOKED_AT, "n")
        yield Grid(SOURCES[source] + (", by layer" if layers else ""), columns, [_look(look, layers) for look in looks])


def _look(look: Mapping[str, Any], layers: bool) -> tuple[str, ...]:
    figures = [with_interval(look[name]) for name in LOOKED_AT.values()]
    which = [look["layer"].removesuffix(LAYER_END)] if layers else []
    return look["of"], *which, TRUTHS[look["truth"]], f"{look['timestep']:g}", *figures, str(look["lift"]["n"])


def _group_grid(found: Result, group: str) -> Grid:
    rows = [
        (f"{row['name']}, {name}", str(scores["n"]), *scores_of(scores))
        for row in found["rows"]
        for name, scores in row["by"][group].items()
    ]
    return Grid(f"Simple to complex: by {group}", (f"drawn by, {group}", "n", *HEADS), rows)


def scores_of(row: Mapping[str, Any]) -> list[str]:
    return [f"{row[name]:.3f} ({row['intervals'][name][0]:.3f} to {row['intervals'][name][1]:.3f})" for name in SCORES]


def differences_of(found: Mapping[str, Any]) -> list[str]:
    """A star where the interval excludes 0."""
    return [with_interval(found[name], "+") + ("*" if _excludes_zero(found[name]) else "") for name in SCORES]


def with_interval(one: Mapping[str, float], sign: str = "") -> str:
    if not one["n"]:
        return "none"
    return f"{one['mean']:{sign}.3f} ({one['low']:{sign}.3f} to {one['high']:{sign}.3f})"


def _excludes_zero(one: Mapping[str, float]) -> bool:
    return one["low"] > 0 or one["high"] < 0


def _counted(n: int) -> str:
    return f"n={n}, 95% intervals"
