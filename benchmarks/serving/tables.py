"""The result as tables."""

from collections.abc import Mapping
from typing import Any

from benchmarks.grids import Grid, Result

COLUMNS = ("", "requests a second", "drawn", "refused", "lost, others", "p50 s", "p95 s", "p99 s", "mean batch")


def grids(found: Result) -> list[Grid]:
    overload, soaked, lone, saturated = (found[name] for name in ("overload", "soak", "lone", "saturated"))
    rates = [_row(f"{rate['share']:.0%} of saturation", rate) for rate in found["rates"]]
    return [
        Grid("Load", COLUMNS, [*rates, _row("overload", overload)]),
        Grid(
            "Beside the library in a loop",
            ("", "server", "library", "server to library"),
            [
                (
                    f"images a second, {found['settings']['max_batch']} in a run",
                    f"{saturated['throughput']:.2f}",
                    f"{saturated['library_throughput']:.2f}",
                    f"{saturated['vs_library']:.3f}",
                ),
                (
                    "seconds of a lone request",
                    f"{lone['seconds']:.3f}",
                    f"{lone['library_seconds']:.3f}",
                    f"{lone['run_vs_library']:.3f} (run alone)",
                ),
                ("ms that a lone request takes longer", f"{lone['added_ms']:.2f}", "", ""),
                ("ms of a lone request outside its run's stages", f"{lone['outside_run_ms']:.2f}", "", ""),
            ],
        ),
        Grid(
            "Endurance",
            ("", "wrong", "memory growth", "recovery s", "threads"),
            [
                (
                    "overload",
                    f"{overload['wrong']}",
                    f"{overload['memory_growth']:.1%}",
                    f"{overload['recovery_seconds']:.3f}",
                    "",
                ),
                (
                    f"{soaked['requests']} requests, {soaked['cancelled']} cancelled",
                    "",
                    f"{soaked['memory_growth']:.1%}",
                    "",
                    f"{soaked['threads_before']} to {soaked['threads_after']}",
                ),
            ],
        ),
    ]


def _row(name: str, load: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        name,
        f"{load['rate']:.2f}",
        f"{load['drawn']}",
        f"{load['refused']}",
        f"{load['lost']}, {load['others']}",
        *(_number(load[name], 3) for name in ("p50", "p95", "p99")),
        _number(load["mean_batch"], 1),
    )


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
