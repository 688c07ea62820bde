"""What `report` shows of gradients."""

from benchmarks.gradients.figures import draw
from benchmarks.gradients.tables import grids
from benchmarks.grids import Result
from benchmarks.sections import Section, embed


def section(found: Result) -> Section:
    return Section(
        "Gradients",
        f"{found['scenes']} held-out scenes, {found['steps']} steps of {found['sampler']}: how cheap stand-ins compare "
        "with the exact gradient.",
        figure=embed("Gradients", draw(found)),
        grids=tuple(grids(found)),
    )
