"""The result as tables."""

from collections.abc import Mapping
from typing import Any

from benchmarks.grids import Grid, Result

COLUMNS = ("requests a second", "replicas", "p50 s", "p95 s", "p99 s", "mean run", "busy")


def grids(found: Result) -> list[Grid]:
    curve = [
        (size, f"{seconds:.3f}", f"{int(size) / seconds:.2f}")
        for size, seconds in sorted(found["curve"].items(), key=lambda one: int(one[0]))
    ]
    return [
        Grid("Runs", ("images", "seconds", "images a second"), curve),
        *([_replicas(found)] if "rows" in found else []),
        *([_checked(found)] if "checked" in found else []),
    ]


def _replicas(found: Result) -> Grid:
    priced = found["gpu_hour"] is not None
    title = f"Replicas that answer 95% within {found['within']:g} s, simulated"
    columns = (*COLUMNS, *(["cost of 1,000 images"] if priced else []))
    return Grid(title, columns, [_row(row, priced) for row in found["rows"]])


def _row(row: Mapping[str, Any], priced: bool) -> tuple[str, ...]:
    cost = [f"{row['cost_of_1000']:.2f}"] if priced else []
    return (f"{row['load']:g}", str(row["replicas"]), *_figures(row), f"{row['busy']:.0%}", *cost)


def _figures(row: Mapping[str, Any]) -> list[str]:
    return [*(f"{row[name]:.2f}" for name in ("p50", "p95", "p99")), f"{row['mean_batch']:.1f}"]


def _checked(found: Result) -> Grid:
    rows = []
    for row in found["checked"]:
        measured = row["measured"]
        counts = f"{measured['drawn']} of {measured['requests']}"
        rows += [
            (f"{row['load']:g} measured", counts, *_figures(measured)),
            (f"{row['load']:g} simulated", "", *_figures(row["simulated"])),
        ]
    title = f"{found['offered']['replicas']} replicas under load"
    return Grid(title, ("requests a second", "drawn", *COLUMNS[2:6]), rows)
