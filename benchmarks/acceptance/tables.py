"""The result as tables."""

from collections.abc import Callable

from benchmarks.grids import Grid, Result


def grids(found: Result) -> list[Grid]:
    """What came of each part."""
    rows = [(part["name"], part["status"], f"{part['seconds']:.0f} s", part["words"]) for part in found["parts"]]
    return [Grid("Parts", ("part", "", "took", "what it found, or why it did not run"), rows)]


def details(found: Result) -> list[Grid]:
    """What single parts found, and the last lines of those that failed."""
    return [
        make(part)
        for part in found["parts"]
        for key, make in (*_OF_FOUND.items(), ("log", _log))
        if (part if key == "log" else part["found"]).get(key)
    ]


def _findings(part: Result) -> Grid:
    columns = ("engine", "output", "called", "largest batch", "error", "limit")
    rows = [
        (
            one["role"],
            one["output"],
            one["way"],
            str(max(one["batches"])),
            f"{one['error'] or float('inf'):.1e}",
            f"{one['limit']:.1e}",
        )
        for one in part["found"]["findings"]
    ]
    return Grid(f"{part['name']}: relative errors", columns, rows)


def _ways_left_out(part: Result) -> Grid:
    return Grid(f"{part['name']}: not checked", ("what", "why"), list(part["found"]["skipped"].items()))


def _errors(part: Result) -> Grid:
    errors = part["found"]["errors"]
    rows = [(name, "none" if error is None else f"{error:.1e}") for name, error in errors.items()]
    return Grid(f"{part['name']}: relative error of final latents", ("mode, backend", "error"), rows)


def _speeds(part: Result) -> Grid:
    speeds = part["found"]["speeds"]
    sizes = next(iter(speeds.values()))["images_per_second"]
    rows = [
        (
            name,
            *(f"{speed:.2f}" for speed in row["images_per_second"].values()),
            f"{row['cold_load']:.1f} s",
            f"{row['first_image']:.2f} s",
            f"{row['peak_rss'] / 1e6:,.0f} MB",
            f"{row['gpu_memory'] / 1e6:,.0f} MB",
        )
        for name, row in speeds.items()
    ]
    columns = ("contender", *(f"batch {size}" for size in sizes), "cold load", "first image", "peak memory", "GPU")
    return Grid("Images a second", columns, rows)


def _tests(part: Result) -> Grid:
    rows = [(name, test["ending"], test["why"]) for name, test in part["found"]["tests"].items()]
    return Grid(part["name"], ("test", "", "why"), rows)


def _log(part: Result) -> Grid:
    return Grid(f"{part['name']}: its last lines", ("",), [(line,) for line in part["log"]])


_OF_FOUND: dict[str, Callable[[Result], Grid]] = {
    "findings": _findings,
    "skipped": _ways_left_out,
    "errors": _errors,
    "speeds": _speeds,
    "tests": _tests,
}
