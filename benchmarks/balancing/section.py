"""What `report` shows of the trials."""

from benchmarks.balancing.tables import grids, predictions
from benchmarks.grids import Result
from benchmarks.sections import Key, Section


def section(found: Result) -> Section:
    winners = [row["name"] for row in found["trials"] if row["beats"]]
    return Section(
        "Balancing",
        f"{found['n']} compositions, {found['steps']} steps of {found['sampler']}, guidance scale "
        f"{found['guidance_scale']:g}, every mode from the same noise. A trial beats a cheap mode that places as much "
        "if it is better in placement or realism beyond chance (its interval excludes 0), and not worse in the other.",
        keys=(Key(f"{len(winners)} of {len(found['trials'])}", "trials beat the cheap modes"),),
        grids=tuple(grids(found)),
        details=(predictions(found),),
        note=f"They are: {', '.join(winners)}." if winners else "No trial does.",
    )
