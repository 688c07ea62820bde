"""What `report` shows of a study."""

from pathlib import Path

from benchmarks.grids import Result
from benchmarks.sections import Key, Picture, Section, embed
from benchmarks.study.figures import SOURCES, draw_differences, draw_front, draw_groups, draw_lift
from benchmarks.study.tables import details, grids

SHOWN = ("text_to_image", "spatial", "exact")  # beside the recommended one, from simple to complex


def section(found: Result) -> Section:
    recommended = found["recommended"]
    row = next(row for row in found["rows"] if row["name"] == recommended["name"])
    return Section(
        "Study",
        f"{found['n']} compositions, {found['steps']} steps of {found['sampler']}, guidance scale "
        f"{found['guidance_scale']:g}, every mode from the same noise. Intervals hold 95% of the means of "
        "10,000 times resampled compositions. Differences are paired by composition; a star marks one whose interval "
        "excludes 0. Maps are the mean over a model's map layers, as engines give it, but where layers are named. "
        "Seconds are of a picture, drawn in batches.",
        keys=(
            Key(recommended["name"], f"recommended for {recommended['placement']:.2f} of the objects in their boxes"),
            *(Key(f"{row[score]:.3f}", f"{score.replace('_', ' ')} of it") for score in ("in_box", "realism")),
            Key(f"{row['unet_rows']:g}", "UNet rows a picture"),
        ),
        figure=embed("Placement and recall over realism", draw_front(found)),
        pictures=tuple(_pictures(found)),
        grids=tuple(grids(found)),
        details=tuple(details(found)),
        note=f"Recommended: {recommended['name']}: {recommended['why']}.",
    )


def _counted(found: Result) -> str:
    """How many pictures were looked at, of each source."""
    most = {look["source"]: look["lift"]["n"] for look in found["maps"] if look["truth"] == "region"}
    return ", ".join(f"n={n} {SOURCES[source]}" for source, n in most.items())


def _pictures(found: Result) -> list[Picture]:
    n, shown = found["n"], [*SHOWN, found["recommended"]["name"]]
    drawn = [
        embed(f"Do the maps know where objects are? {_counted(found)}, bands are 95% intervals", draw_lift(found)),
        embed(f"Exact less placebos, and less the best of the others; n={n}, 95% intervals", draw_differences(found)),
        embed("Simple to complex; whiskers are 95% intervals", draw_groups(found, shown)),
    ]
    files = {caption: Path(file) for caption, file in found["pictures"].items()}
    return drawn + [embed(caption, file.read_bytes()) for caption, file in files.items() if file.is_file()]
