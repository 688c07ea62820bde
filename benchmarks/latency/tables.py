"""Latency as tables."""

from benchmarks.grids import Grid, Result

OPERATORS_SHOWN = 8
MEGABYTE = 1e6
UNET_ROWS = ("UNet rows, forward", "and backward")


def grids(found: Result) -> list[Grid]:
    """Seconds, ratios, where the time goes, and images a second."""
    return [_seconds(found), _ratios(found), _stages(found), *_speeds(found)]


def is_baseline(row: Result) -> bool:
    """Whether a contender is none of the runtime's, which alone has engines."""
    return not row["engines_ms"]


def parity_line(found: Result) -> str:
    """What was checked before anything was timed."""
    errors = ", ".join(f"{pair} {error:.1e}" for pair, error in found["parity"].items())
    return f"Parity, the relative error between final latents: {errors or 'no two contenders to compare'}"


def profile_grids(found: Result) -> list[Grid]:
    """For each engine, if any was profiled, what its operators take of a call."""
    return [_profile(profile) for profile in found.get("profiles", ())]


def _seconds(found: Result) -> Grid:
    columns = ("contender", "p50", "p95", "p99", "images", "first image", "cold load", "peak memory")
    on_gpu = found["settings"]["device"] != "cpu"
    rows = [
        (
            name,
            *(f"{row[p]:.3f} s" for p in ("p50", "p95", "p99")),
            str(row["images"]),
            *_alone(row, on_gpu),
        )
        for name, row in found["contenders"].items()
    ]
    settings = found["settings"]
    return Grid(f"Seconds an image, {settings['sampling']['steps']} PLMS steps, batch 1", columns, rows)


def _alone(row: Result, on_gpu: bool) -> tuple[str, str, str]:
    """What was measured in a process of its own, if it was."""
    if row["peak_rss"] is None:
        return "", "", ""
    gpu = f" + {row['gpu_memory'] / MEGABYTE:,.0f} MB GPU" if on_gpu else ""
    return (
        f"{row['first_image']:.3f} s",
        f"{row['cold_load']:.1f} s",
        f"{row['peak_rss'] / MEGABYTE:,.0f} MB{gpu}",
    )


def _ratios(found: Result) -> Grid:
    baselines = [name for name, row in found["contenders"].items() if is_baseline(row)]
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
