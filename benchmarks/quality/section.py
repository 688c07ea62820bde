"""What `report` shows of quality."""

from benchmarks.grids import Result
from benchmarks.quality.figures import draw
from benchmarks.quality.tables import quality_grid
from benchmarks.sections import Section, embed


def section(found: Result) -> Section:
    return Section(
        "Quality",
        f"{found['scenes']} held-out scenes, {found['steps']} steps of {found['sampler']}. All scores lie in 0 to 1, "
        "and higher is better.",
        figure=embed("Quality", draw(found)),
        grids=(quality_grid("All scenes", {row["mode"]: row for row in found["rows"]}),),
        details=tuple(quality_grid(f"{row['mode']} by category", row["categories"]) for row in found["rows"]),
    )
