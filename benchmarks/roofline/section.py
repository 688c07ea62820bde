"""What `report` shows of a roofline."""

from benchmarks.grids import Result
from benchmarks.roofline.figures import draw
from benchmarks.roofline.tables import grids
from benchmarks.sections import Section, embed


def section(found: Result) -> Section:
    return Section(
        f"Roofline of {found['ceilings']['name']}",
        "The least time that each engine and each kind of step can take, from its operations, its memory traffic and "
        "the device's ceilings.",
        figure=embed("Roofline", draw(found)),
        grids=tuple(grids(found)),
    )
