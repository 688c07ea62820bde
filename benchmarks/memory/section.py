"""What `report` shows of memory."""

from benchmarks.grids import Result
from benchmarks.memory.tables import grids
from benchmarks.sections import Section


def section(found: Result) -> Section:
    return Section(
        "Memory",
        f"What a process holds that has loaded the bundle for one mode and drawn a picture of {found['steps']} steps.",
        grids=tuple(grids(found)),
    )
