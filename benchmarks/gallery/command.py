"""`python -m benchmarks gallery`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.drawing import SceneSampling
from benchmarks.figures import as_png
from benchmarks.gallery.figures import draw_gallery
from benchmarks.gallery.measure import draw_row
from benchmarks.options import CoefficientScale, GuidanceScale, Sampler, Seed, Steps
from benchmarks.results import hand_over, write_picture
from benchmarks.tabletop.layouts import RegionKind
from benchmarks.tabletop.scenes import held_out_scenes
from runtime.cli import plain_errors


def gallery(
    bundle: Annotated[
        list[str],
        typer.Argument(
            metavar="BUNDLE[:REGIONS]...",
            help="Folders of bundles of Tabletop pairs, one row each. REGIONS is box (the default), mask or keypoints.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="PNG to write.")],
    scene: Annotated[int, typer.Option(min=0, help="Number of the held-out scene to draw, from 0.")] = 3,
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
        before, chosen = machine.describe(), held_out_scenes(scene + 1)[scene]
        sampling, rows, modes = (
            SceneSampling(steps, sampler, guidance_scale, 1, coefficient_scale),
            [],
            mode or ["exact"],
        )
        with Console(stderr=True).status("drawing") as status:
            for given in bundle:
                status.update(f"drawing with {given}")
                folder, kind = _parse(given)
                rows.append(draw_row(folder, chosen, replace(sampling, regions=kind), seed, modes))
        write_picture(out, as_png(draw_gallery(rows, chosen.caption, modes)))
        found = {"caption": chosen.caption, "bundles": bundle, "modes": modes, "picture": str(out)}
        hand_over("gallery", found, before, None)


def _parse(given: str) -> tuple[Path, RegionKind]:
    for kind in get_args(RegionKind):
        if given.endswith(f":{kind}"):
            return Path(given.removesuffix(f":{kind}")), kind
    return Path(given), "box"
