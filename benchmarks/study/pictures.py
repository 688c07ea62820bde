"""The pictures of a study that its figures do not tell: what the models looked at, and what was drawn."""

from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.figures import as_png
from benchmarks.results import write_picture
from benchmarks.study.drawing import Studio
from benchmarks.study.figures import draw_heat_maps, draw_sheet
from benchmarks.study.looking import noised_maps, open_vae
from benchmarks.study.measure import Study
from runtime.words import MODELS

HEATED = 2  # compositions whose maps are shown: the first ones
COLUMNS = 10  # compositions of the sheet: the first ones
PLAIN = ("text_to_image", "spatial", "fixed:0.5", "none", "surrogate", "exact")


def write_pictures(bundle: Path, studio: Studio, found: Study) -> dict[str, str]:
    """Caption and file of each picture, as PNGs in the studio's folder."""
    figures = {"what was drawn of the first compositions": ("drawn", _sheet(studio, found))}
    for i, figure in enumerate(_heat_maps(bundle, studio)):
        figures[f"what the models looked at in noised pictures, composition {i}"] = (f"looked-{i}", figure)
    files = {caption: studio.folder / f"{name}.png" for caption, (name, _) in figures.items()}
    for caption, (_, figure) in figures.items():
        write_picture(files[caption], as_png(figure))
    return {caption: str(file) for caption, file in files.items()}


def _sheet(studio: Studio, found: Study) -> Figure:
    names = {*PLAIN, found.recommended["name"]}
    shown = [result.contender for result in found.results if result.contender.name in names]
    rows = {c.name: studio.draw(c, lambda _: None).images()[:COLUMNS] for c in shown}
    return draw_sheet(studio.cases[:COLUMNS], rows)


def _heat_maps(bundle: Path, studio: Studio) -> list[Figure]:
    first = studio.cases[:HEATED]
    vae = open_vae(studio.pipe, bundle)
    if vae is None or not all(case.pictures for case in first):
        return []
    resolution = studio.pipe.manifest.maps.resolution
    seen = {m: dict(noised_maps(studio.pipe, vae, first, range(len(first)), m)) for m in MODELS}
    return [
        draw_heat_maps(
            case,
            {
                m: {t: maps[i].unflatten(-1, resolution).numpy(force=True) for t, maps in seen[m].items()}
                for m in MODELS
            },
        )
        for i, case in enumerate(first)
    ]
