"""What `report` shows of an acceptance; what its parts handed over has sections of its own."""

from benchmarks.acceptance.tables import details, grids
from benchmarks.grids import Result
from benchmarks.sections import Key, Section


def section(found: Result) -> Section:
    bundle, counts = found["bundle"], found["counts"]
    return Section(
        "Acceptance",
        f"{bundle['pair']} in {bundle['precision']}, device: {found['device']}. Each part ran in a process of its own.",
        keys=tuple(Key(str(counts[status]), f"parts {status}") for status in counts),
        grids=tuple(grids(found)),
        details=tuple(details(found)),
    )
