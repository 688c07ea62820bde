"""What `report` shows of a suite."""

from benchmarks.grids import Result
from benchmarks.sections import Key, Section
from benchmarks.suite.tables import details, grids

STANDS_OUT = 4  # figures above the tables


def section(found: Result) -> Section:
    drawn = sum(task["prompts"] * task["images"] for task in found["tasks"].values())
    return Section(
        found["title"],
        f"Every mode from the same layouts ({found['layouts']['planner']}) and seeds, judged by the suite's own "
        "scorer. Intervals hold 95% of the means of 10,000 times resampled prompts. Differences are paired by prompt; "
        "a star marks one whose interval excludes 0. Regions are left out, and prompts not read whole, where the "
        "bundle's text encoder does not know their words or cuts them off.",
        keys=(
            Key(str(drawn), "pictures a mode"),
            *(
                Key(f"{row['mean']:.3f}", f"{row['figure']} of {row['mode']}, {row['task']}")
                for row in found.get("rows", ())[:STANDS_OUT]
                if row["n"]
            ),
        ),
        grids=tuple(grids(found)),
        details=tuple(details(found)),
    )
