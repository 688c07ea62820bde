"""`python -m benchmarks gallery`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.drawing import SceneSampling
from benchmarks.figures import as_png
from benchmarks.gallery.figures import draw_gallery
from benchmarks.gallery.measure import Row, draw_row
from benchmarks.gallery.subjects import DEFAULT, SUBJECTS
from benchmarks.options import CoefficientScale, GuidanceScale, Sampler, Seed, Steps
from benchmarks.results import hand_over, write_picture
from runtime.cli import plain_errors


def gallery(
    bundle: Annotated[
        list[str],
        typer.Argument(
            metavar="BUNDLE[:PLACES]...",
            help="Folders of bundles of Tabletop pairs, one row each. PLACES is how a held-out scene's objects are "
            "given: box (the default), mask or keypoints; or scene, for a random 3D scene.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="PNG to write.")],
    scene: Annotated[int, typer.Option(min=0, help="Number of the scene to draw, from 0.")] = 3,
    mode: Annotated[
        list[str] | None,
        typer.Option(
            help="Mode of both models to draw in, as `generate --gradient` takes it, or recommended: what the bundle "
            "recommends; repeat it for more. Default: exact."
        ),
    ] = None,
    steps: Steps = 20,
    sampler: Sampler = "dpm++2m",
    guidance_scale: GuidanceScale = 2.5,
    coefficient_scale: CoefficientScale = 1e6,
    seed: Seed = 0,
) -> None:
    """Draw a scene with each model alone and with both, one row for each bundle."""
    with plain_errors():
        before, rows, modes = machine.describe(), list[Row](), mode or ["exact"]
        sampling = SceneSampling(steps, sampler, guidance_scale, 1, coefficient_scale)
        with Console(stderr=True).status("drawing") as status:
            for given in bundle:
                status.update(f"drawing with {given}")
                folder, places = _parse(given)
                rows.append(draw_row(folder, SUBJECTS[places](scene), sampling, seed, modes))
        write_picture(out, as_png(draw_gallery(rows, modes)))
        found = {"captions": [row.caption for row in rows], "bundles": bundle, "modes": modes, "picture": str(out)}
        hand_over("gallery", found, before, None)


def _parse(given: str) -> tuple[Path, str]:
    for places in SUBJECTS:
        if given.endswith(f":{places}"):
            return Path(given.removesuffix(f":{places}")), places
    return Path(given), DEFAULT
