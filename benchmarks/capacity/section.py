"""What `report` shows of capacity."""

from benchmarks.capacity.figures import draw
from benchmarks.capacity.tables import grids
from benchmarks.grids import Result
from benchmarks.sections import Key, Section, embed


def section(found: Result) -> Section:
    rows = found.get("rows", [])
    return Section(
        "Capacity",
        f"Pictures of {found['steps']} steps. Requests come by chance (Poisson), each for one image; each goes to the "
        "replica with the shorter line of two drawn by chance, whose line joins those that wait, as the server's does. "
        "Seconds of runs are measured, and queueing is simulated.",
        keys=tuple(Key(str(row["replicas"]), f"replicas for {row['load']:g} requests a second") for row in rows),
        figure=embed("Images a second of a replica by the images of a run", draw(found)),
        grids=tuple(grids(found)),
    )
