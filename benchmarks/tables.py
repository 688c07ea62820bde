"""Results as tables: one form of them for the terminal and for `report`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.table import Table

Result = Mapping[str, Any]  # what a benchmark handed over

OPERATORS_SHOWN = 8
MEGABYTE = 1e6
UNET_ROWS = ("UNet rows, forward", "and backward")


@dataclass(frozen=True)
class Grid:
    """A table of words; the first column names the row."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def to_rich(grid: Grid) -> Table:
    table = Table(title=grid.title)
    for i, name in enumerate(grid.columns):
        table.add_column(name, justify="right" if i else "left")
    for row in grid.rows:
        table.add_row(*row)
    return table


def latency_grids(found: Result) -> list[Grid]:
    """Seconds, ratios, where the time goes, and images a second."""
    return [_seconds(found), _ratios(found), _stages(found), *_speeds(found)]


def parity_line(found: Result) -> str:
    """What was checked before anything was timed."""
    errors = ", ".join(f"{pair} {error:.1e}" for pair, error in found["parity"].items())
    return f"Parity, the relative error between final latents: {errors or 'no two contenders to compare'}"


def profile_grids(found: Result) -> list[Grid]:
    """For each engine, if any was profiled, what its operators take of a call."""
    return [_profile(profile) for profile in found.get("profiles", ())]


def quality_grid(title: str, rows: Mapping[str, Mapping[str, Any]]) -> Grid:
    """Scores in 0..1 by mode, or by category of one mode."""
    names = [name for name, value in next(iter(rows.values())).items() if isinstance(value, float)]
    scores = [(row, *(f"{values[name]:.3f}" for name in names)) for row, values in rows.items()]
    return Grid(title, ("", *(name.replace("_", " ") for name in names)), scores)


def gradient_grids(found: Result) -> list[Grid]:
    """Losses over runs, and stand-ins beside the exact gradient."""
    losses = [(name, f"{sum(v) / len(v):.4f}", f"{v[-1]:.4f}") for name, v in found["losses"].items()]
    agreement = [
        (
            row["name"],
            *(f"{statistic(row['cosine']):.3f}" for statistic in (median, min, max)),
            f"{median(row['norm_ratio']):.2g}",
        )
        for row in found["agreement"]
    ]
    return [
        Grid("Attention loss a region over the evaluations", ("coefficients moved by", "mean", "last"), losses),
        Grid("Beside the exact gradient", ("gradient", "cosine", "lowest", "highest", "norm ratio"), agreement),
    ]


def _seconds(found: Result) -> Grid:
    columns = ("contender", "p50", "p95", "p99", "images", "first image", "cold load", "peak memory")
    on_gpu = found["settings"]["device"] != "cpu"
    rows = [
        (
            name,
            *(f"{row[p]:.3f} s" for p in ("p50", "p95", "p99")),
            str(row["images"]),
            f"{row['first_image']:.3f} s",
            f"{row['cold_load']:.1f} s",
            f"{row['peak_rss'] / MEGABYTE:,.0f} MB"
            + (f" + {row['gpu_memory'] / MEGABYTE:,.0f} MB GPU" if on_gpu else ""),
        )
        for name, row in found["contenders"].items()
    ]
    settings = found["settings"]
    return Grid(f"Seconds an image, {settings['sampling']['steps']} PLMS steps, batch 1", columns, rows)


def _ratios(found: Result) -> Grid:
    baselines = [name for name in found["contenders"] if name.startswith(("stock", "eager"))]
    rows = [
        (name, *("" if name == baseline else _ratio(found, name, baseline) for baseline in baselines))
        for name in found["contenders"]
    ]
    return Grid("How many times as long as each baseline: median (quartiles)", ("contender", *baselines), rows)


def _ratio(found: Result, a: str, b: str) -> str:
    name = f"{a}_vs_{b}"
    low, high = found["ratio_quartiles"][name]
    return f"{found['ratios'][name]:.2f} ({low:.2f} to {high:.2f})"


def _stages(found: Result) -> Grid:
    columns = ("contender", "text", "denoise", "decode", "a step", "engines", "between engines")
    rows = [
        (
            name,
            _milliseconds(row["stages"]["text"] + row["stages"].get("grounding", 0)),
            _milliseconds(row["stages"]["denoise"]),
            _milliseconds(row["stages"]["decode"]),
            f"{row['step_ms']:.1f} ms",
            f"{sum(row['engines_ms'].values()):.1f} ms" if row["engines_ms"] else "",
            _between(row),
            *(str(row["rows"][kind]) if row["rows"] else "" for kind in ("forward", "gradient")),
        )
        for name, row in found["contenders"].items()
    ]
    return Grid("Where the time goes: stages of an image, and of each step", (*columns, *UNET_ROWS), rows)


def _between(row: Result) -> str:
    if "between_engines_ms" not in row:
        return ""
    return f"{row['between_engines_ms']:.2f} ms ({row['between_engines_share']:.1%})"


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"


def _speeds(found: Result) -> list[Grid]:
    speeds = {name: row["images_per_second"] for name, row in found["contenders"].items() if row["images_per_second"]}
    if not speeds:
        return []
    sizes = list(next(iter(speeds.values())))
    rows = [(name, *(f"{speed[size]:.2f}" for size in sizes)) for name, speed in speeds.items()]
    return [Grid("Images a second", ("contender", *(f"batch {size}" for size in sizes)), rows)]


def _profile(profile: Result) -> Grid:
    whole = profile["milliseconds"]
    shown = profile["operators"][:OPERATORS_SHOWN]
    rest = whole - sum(share["milliseconds"] for share in shown)
    rows = [
        (share["name"], str(share["count"]), f"{share['milliseconds']:.2f} ms", f"{share['milliseconds'] / whole:.0%}")
        for share in (*shown, {"name": "other, and between nodes", "count": "", "milliseconds": rest})
    ]
    slowest = profile["nodes"][0]
    title = (
        f"{profile['role']} on {profile['backend']}: {whole:.1f} ms for {profile['rows']} rows; slowest node "
        f"{slowest['name']}, {slowest['milliseconds']:.2f} ms"
    )
    return Grid(title, ("operator", "nodes", "a call", "share"), rows)


def roofline_grids(found: Result) -> list[Grid]:
    """The floors of steps and of engines, and what was reached where it was measured."""
    precisions = list(found["ceilings"]["tflops"])
    stages = [(name, *(_milliseconds(floors[p]) for p in precisions)) for name, floors in found["stages"].items()]
    engines = [
        (
            engine["role"],
            str(engine["rows"]),
            *(f"{_milliseconds(engine['floors'][p]['seconds'])}, {engine['floors'][p]['bound']}" for p in precisions),
        )
        for engine in found["engines"]
    ]
    measured = [
        (row["role"], str(row["rows"]), _milliseconds(row["seconds"]), f"{row['share']:.0%}")
        for row in found["measured"]
    ]
    return [
        Grid("Floor of each kind of step and of an image", ("", *precisions), stages),
        Grid("Floor of an engine's call, and what bounds it", ("engine", "rows", *precisions), engines),
        *([Grid("Measured", ("engine", "rows", "a call", "of the ceiling"), measured)] if measured else []),
    ]
