"""What `report` shows of planning."""

from benchmarks.grids import Result
from benchmarks.planning.tables import grids, wrong_grids
from benchmarks.sections import Key, Section

SHOWN = 100  # wrong prompts of a file


def section(found: Result) -> Section:
    prompts = sum(file["prompts"] for file in found["files"])
    return Section(
        "Planning",
        f"Layouts of {prompts} prompts by the planner {found['planner']}, judged by the rules of the benchmarks that "
        "the prompts are from.",
        keys=(Key(str(prompts), "prompts planned"),),
        grids=tuple(grids(found)),
        details=tuple(wrong_grids(found, SHOWN)),
    )
