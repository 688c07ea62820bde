"""A study as pictures: what the figures of the result look like, what models looked at, and what was drawn."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from benchmarks.figures import FAINT, INK, as_png, clean
from benchmarks.grids import Result
from benchmarks.study.cases import Case
from benchmarks.study.looking import MEAN
from benchmarks.study.scorers import SCORES
from runtime.layouts.pictures import bare, outline, region_colors
from runtime.words import Model

CHANCE = {"lift": 1.0, "pointing": 0.0, "auc": 0.5}
MEASURES = {"lift": "lift", "pointing": "pointing game", "auc": "AUC"}
SOURCES = {"noised": "noised pictures", "drawing": "while drawing"}
TRUTHS = {"region": "", "found": ", where it is found"}
MARKS = "osD^vP*X<>"
MAP_SIDE = 1.25  # inches
LINE = 30  # characters of a caption above a picture


def draw_front(found: Result) -> bytes:
    """A PNG: placement, and recall, over realism; a line a family, its settings in order, whiskers the intervals."""
    figure = Figure(figsize=(12, 5.2), layout="constrained")
    for axes, score in zip(figure.subplots(1, 2), ("in_box", "object_recall"), strict=True):
        for i, (family, rows) in enumerate(_families(found).items()):
            _points(axes, rows, score, family, i)
        axes.set(xlabel="realism", ylabel=score.replace("_", " "))
        clean(axes, "both")
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    figure.suptitle(f"Placement and recall over realism, n={found['n']}, 95% intervals", fontsize=11, color=INK)
    return as_png(figure)


def draw_lift(found: Result) -> bytes:
    """A PNG: lift, pointing game and AUC over the timestep; a line of pictures for noised pictures, one for runs."""
    sources = list(dict.fromkeys(look["source"] for look in found["maps"]))
    figure = Figure(figsize=(12, 3.4 * len(sources)), layout="constrained")
    for line, source in zip(figure.subplots(len(sources), len(CHANCE), squeeze=False), sources, strict=True):
        for axes, measure in zip(line, CHANCE, strict=True):
            for label, looks in _looks_by_name(found, source).items():
                _band(axes, label, [look["timestep"] for look in looks], [look[measure] for look in looks])
            axes.axhline(CHANCE[measure], color=FAINT, linewidth=0.8)
            axes.set(xlabel="timestep", title=f"{MEASURES[measure]}, {SOURCES[source]}", xlim=(1000, 0))
            clean(axes, "y")
        line[-1].legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return as_png(figure)


def draw_groups(found: Result, names: Sequence[str]) -> bytes:
    """A PNG: scores from simple to complex, of the rows of those names."""
    groups = [group for group, by in found["rows"][0]["by"].items() if by]
    figure = Figure(figsize=(13, 3.2 * len(groups)), layout="constrained")
    grid = figure.subplots(len(groups), len(SCORES), squeeze=False)
    shown = [row for row in found["rows"] if row["name"] in names]
    for line, group in zip(grid, groups, strict=True):
        for axes, score in zip(line, SCORES, strict=True):
            for i, row in enumerate(shown):
                _bars(axes, row["by"][group], score, row["name"], i, len(shown))
            axes.set_title(f"{score.replace('_', ' ')} by {group}", fontsize=10, color=INK)
            clean(axes, "y")
    grid[0, -1].legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return as_png(figure)


def draw_differences(found: Result) -> bytes:
    """A PNG: what exact has more than placebos and than the others' best, with intervals."""
    rows = {f"exact less {name}": row for name, row in found["placebo"].items() if name != "exact"}
    rows |= {f"{gain['of']} less {gain['best']}, equal {gain['equal']}": gain for gain in found["gains"]}
    figure = Figure(figsize=(12, 0.42 * len(rows) + 1.4), layout="constrained")
    for axes, score in zip(figure.subplots(1, len(SCORES), sharey=True), SCORES, strict=True):
        for i, row in enumerate(rows.values()):
            one = row["exact_minus"][score]
            axes.plot([one["low"], one["high"]], [i, i], color=INK, linewidth=1.6)
            axes.plot(one["mean"], i, "o", color=INK, markersize=5)
        axes.axvline(0, color=FAINT, linewidth=0.8)
        axes.set_yticks(range(len(rows)), list(rows), fontsize=9)
        axes.set_title(f"{score.replace('_', ' ')}", fontsize=10, color=INK)
        clean(axes, "x")
    axes.invert_yaxis()
    return as_png(figure)


def draw_heat_maps(case: Case, maps: Mapping[Model, Mapping[int, np.ndarray]]) -> Figure:
    """Each model's attention for each region, laid over the picture that it was asked about.

    Args:
        maps: by model and timestep (R,h,w).
    """
    regions, timesteps = case.layout.regions, list(next(iter(maps.values())))
    lines = [(model, r) for model in maps for r in range(len(regions))]
    size = (MAP_SIDE * len(timesteps) + 1.6, MAP_SIDE * len(lines) + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(lines), len(timesteps), squeeze=False)
    for line, (model, r) in zip(grid, lines, strict=True):
        for axes, timestep in zip(line, timesteps, strict=True):
            heat(axes, case.pictures[model], maps[model][timestep][r])
            outline(axes, regions[r], region_colors(case.layout)[r], width=1)
        line[0].set_ylabel(f"{model}\n{regions[r].phrase}", rotation=0, ha="right", va="center", fontsize=8)
    for axes, timestep in zip(grid[0], timesteps, strict=True):
        axes.set_title(f"t {timestep}", fontsize=9, color=FAINT)
    figure.suptitle(case.prompt, fontsize=10, color=INK)
    return figure


def heat(axes: Axes, picture: Image.Image, attention: np.ndarray) -> None:
    """A map over the grey picture: as bright as it is attended, from its least to its most."""
    bare(axes)
    axes.imshow(picture.convert("L"), cmap="gray", extent=(0, 1, 1, 0), vmin=0, vmax=255)
    spread = (attention - attention.min()) / max(float(np.ptp(attention)), 1e-12)
    axes.imshow(colormaps["inferno"](spread), extent=(0, 1, 1, 0), alpha=0.25 + 0.6 * spread, interpolation="nearest")


def draw_sheet(cases: Sequence[Case], rows: Mapping[str, Sequence[Image.Image]]) -> Figure:
    """What each drew of the first cases, with the regions."""
    figure = Figure(figsize=(MAP_SIDE * len(cases) + 2, MAP_SIDE * len(rows) + 0.6), layout="constrained")
    grid = figure.subplots(len(rows), len(cases), squeeze=False)
    for line, (name, images) in zip(grid, rows.items(), strict=True):
        for axes, case, image in zip(line, cases, images, strict=False):
            bare(axes)
            axes.imshow(image, extent=(0, 1, 1, 0), interpolation="lanczos")
            for region, color in zip(case.layout.regions, region_colors(case.layout), strict=True):
                outline(axes, region, color, width=0.6)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    for axes, case in zip(grid[0], cases, strict=True):
        axes.set_title(fill(case.prompt, LINE), fontsize=6.5, color=INK)
    return figure


def _families(found: Result) -> dict[str, list[Mapping[str, Any]]]:
    families: dict[str, list[Mapping[str, Any]]] = {}
    for row in found["rows"]:
        families.setdefault(row["family"], []).append(row)
    return families


def _looks_by_name(found: Result, source: str) -> dict[str, list[Mapping[str, Any]]]:
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for look in found["maps"]:
        if look["source"] == source and look["layer"] == MEAN:
            lines.setdefault(look["of"] + TRUTHS[look["truth"]], []).append(look)
    return lines


def _band(axes: Axes, label: str, timesteps: Sequence[float], found: Sequence[Mapping[str, float]]) -> None:
    low, mean, high = (np.asarray([one[name] for one in found], float) for name in ("low", "mean", "high"))
    (line,) = axes.plot(timesteps, mean, "-o", markersize=3, label=label)
    axes.fill_between(timesteps, low, high, color=line.get_color(), alpha=0.12, linewidth=0)


def _points(axes: Axes, rows: Sequence[Mapping[str, Any]], score: str, family: str, i: int) -> None:
    x, y = [row["realism"] for row in rows], [row[score] for row in rows]
    whiskers = [np.abs(np.asarray([row["intervals"][name] for row in rows]).T - values) for name, values in
                ((score, y), ("realism", x))]  # fmt: skip
    color = colormaps["tab10"](i % 10)
    axes.errorbar(
        x, y, yerr=whiskers[0], xerr=whiskers[1], fmt=MARKS[i % len(MARKS)], color=color, ecolor=(*color[:3], 0.35),
        elinewidth=0.9, markersize=6, label=family, linestyle="-" if len(rows) > 1 else "none", linewidth=0.8,
    )  # fmt: skip
    for row in rows[:: max(1, len(rows) - 1)] if len(rows) > 1 else []:
        label = row["name"].removeprefix(family).strip(" ,") or row["name"]
        axes.annotate(label, (row["realism"], row[score]), fontsize=6.5, xytext=(4, 4), textcoords="offset points")


def _bars(axes: Axes, by: Mapping[str, Any], score: str, name: str, i: int, count: int) -> None:
    means = np.asarray([scores[score] for scores in by.values()])
    whiskers = np.abs(np.asarray([scores["intervals"][score] for scores in by.values()]).T - means)
    places = np.arange(len(by)) + (i - (count - 1) / 2) * 0.8 / count
    axes.bar(places, means, width=0.8 / count, yerr=whiskers, label=name, error_kw={"elinewidth": 0.7})
    axes.set_xticks(range(len(by)), [f"{group}\nn={scores['n']}" for group, scores in by.items()], fontsize=8)
    axes.set_ylim(0, 1)
