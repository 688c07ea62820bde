"""The result as a table."""

from benchmarks.grids import Grid, Result

COLUMNS = ("mode", "engines", "resident", "the bundle's own", "of it, share of exact's", "mapped files", "most", "GPU")


def grids(found: Result) -> list[Grid]:
    exact = found["modes"].get("exact", {}).get("loaded")
    rows = [
        (
            mode,
            str(len(row["engines"])),
            _megabytes(row["resident"]),
            _megabytes(row["loaded"]),
            f"{row['loaded'] / exact:.2f}" if exact else "",
            _megabytes(row["files"]),
            _megabytes(row["most"]),
            _megabytes(row["gpu"]) if row["gpu"] else "",
        )
        for mode, row in found["modes"].items()
    ]
    return [Grid("Memory of a process with one mode", COLUMNS, rows)]


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.0f} MB"
