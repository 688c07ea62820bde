"""The trials as tables. Every mean has its 95% interval beside it."""

from benchmarks.grids import Grid, Result
from benchmarks.study.tables import HEADS, differences_of, scores_of


def grids(found: Result) -> list[Grid]:
    counted = f"n={found['n']}, 95% intervals"
    cheap = [(row["name"], *scores_of(row), f"{row['unet_rows']:g}") for row in found["cheap"]]
    tried = [(row["name"], *scores_of(row), f"{row['unet_rows']:g}") for row in found["trials"]]
    gaps = [
        (row["name"], row["beside"], *differences_of(row["minus"]), "yes" if row["beats"] else "no")
        for row in found["trials"]
    ]
    return [
        Grid(f"Cheap modes: {counted}", ("drawn by", *HEADS, "UNet rows"), cheap),
        Grid(f"Trials of the balancer: {counted}", ("exact", *HEADS, "UNet rows"), tried),
        Grid(f"Trials less the cheap mode that places as much: {counted}", ("exact", "less", *HEADS, "beats it"), gaps),
    ]


def predictions(found: Result) -> Grid:
    rows = [(row["name"], row["prediction"]) for row in found["trials"]]
    return Grid("What was predicted", ("exact", "prediction"), rows)
