"""A suite's result as tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.grids import Grid, Result
from benchmarks.study.tables import with_interval


def grids(found: Result) -> list[Grid]:
    """What everybody wants to see: scores, and every mode less the first one."""
    first = next(iter(found["modes"]))
    against = [row for row in found.get("differences", ()) if row["less"] == first]
    return [
        *_some(
            "What was drawn",
            ("task", "prompts", "images each", "regions", "left out", "prompts not read whole", "without regions"),
            _drawn(found),
        ),
        *_some(f"Layouts, by {found['title']}'s own evaluation", ("task", "figure", ""), _judged(found)),
        *_some(
            f"{found['title']}, 95% intervals over prompts",
            ("task", "mode", "figure", "mean (interval)", "the scorer says", "prompts"),
            [_row(row) for row in found.get("rows", ())],
        ),
        *_some(f"Less {first}, paired by prompt", ("task", "mode", "figure", "difference"), _differences(against)),
        *_some("Not shown", ("task", "mode", "why"), [_why(row) for row in found.get("unfinished", ())]),
    ]


def details(found: Result) -> list[Grid]:
    """Every two modes."""
    rows = [(row["task"], f"{row['mode']} less {row['less']}", *_figures(row)) for row in found.get("differences", ())]
    return _some("Every two modes, paired by prompt", ("task", "modes", "figure", "difference"), rows)


def _some(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[Grid]:
    return [Grid(title, columns, rows)] if rows else []


def _drawn(found: Result) -> list[tuple[str, ...]]:
    return [
        (
            name,
            f"{task['prompts']}" if task["whole"] else f"the first {task['prompts']}",
            *(str(task[field]) for field in ("images", "regions", "left_out", "strange", "without_layout")),
        )
        for name, task in found["tasks"].items()
    ]


def _judged(found: Result) -> list[tuple[str, ...]]:
    judged = found["layouts"].get("judged", {})
    return [(task, name, f"{value:g}") for task, figures in judged.items() for name, value in figures.items()]


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    said = "" if row["said"] is None else f"{row['said']:.4f}"
    return row["task"], row["mode"], row["figure"], with_interval(row), said, str(row["n"])


def _differences(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    return [(row["task"], row["mode"], *_figures(row)) for row in rows]


def _figures(row: Mapping[str, Any]) -> tuple[str, str]:
    """A star where the interval excludes 0."""
    star = "*" if row["n"] and (row["low"] > 0 or row["high"] < 0) else ""
    return row["figure"], with_interval(row, "+") + star


def _why(row: Mapping[str, str]) -> tuple[str, ...]:
    return row["task"], row["mode"], row["why"]
