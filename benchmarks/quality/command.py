"""`python -m benchmarks quality`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.drawing import SceneSampling
from benchmarks.grids import show
from benchmarks.options import CoefficientScale, Form, GuidanceScale, JsonFile, Sampler, Steps, UpdateEvery
from benchmarks.quality.measure import MODES, as_row, measure
from benchmarks.quality.tables import quality_grid
from benchmarks.results import hand_over
from benchmarks.tabletop.layouts import RegionKind
from runtime.bundle.manifest import read_manifest
from runtime.cli import plain_errors
from runtime.errors import RealCompoError
from runtime.presets import TABLED, preset_knobs


def quality(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle of a Tabletop pair.")],
    scenes: Annotated[
        int, typer.Option(min=4, help="Number of held-out scenes, 4 or more; a quarter from each category.")
    ] = 200,
    mode: Annotated[
        list[str] | None,
        typer.Option(
            help="Gradient mode to score, as `generate --gradient` takes it; repeat it for more. Default: all."
        ),
    ] = None,
    steps: Steps = 20,
    sampler: Sampler = "dpm++2m",
    guidance_scale: GuidanceScale = 2.5,
    batch: Annotated[int, typer.Option(min=1, help="Number of images drawn together, 1 or more.")] = 8,
    form: Form = "paper",
    coefficient_scale: CoefficientScale = 1e6,
    update_every: UpdateEvery = 1,
    preset: Annotated[
        str | None,
        typer.Option(
            help=f"Preset to draw every mode with, instead of these: {', '.join(TABLED)}; with either, distilled "
            "models draw in their own steps."
        ),
    ] = None,
    regions: Annotated[
        RegionKind, typer.Option(help="Kind of place that the layouts give each object: box, mask or keypoints.")
    ] = "box",
    json_file: JsonFile = None,
) -> None:
    """Score each way of combining the models on scenes with layouts: what is there, where, and how realistic."""
    with plain_errors():
        before = machine.describe()
        if preset not in (None, *TABLED):
            raise RealCompoError(f"--preset {preset} is unknown; use one of {', '.join(TABLED)}")
        scale, every = coefficient_scale, update_every
        sampling = SceneSampling(steps, sampler, guidance_scale, batch, scale, every, regions, form, preset)
        rows, modes = [], mode or list(MODES)
        with Console(stderr=True).status("loading the bundle") as status:
            for name, scores in measure(bundle, scenes, modes, sampling):
                rows.append(as_row(name, scores))
                show([quality_grid(name, {category: asdict(row) for category, row in scores.items()})])
                status.update(f"{len(rows)} of {len(modes)} modes scored")
        found = {"scenes": scenes, "steps": steps, "sampler": sampler, "regions": regions, "form": form}
        knobs = preset_knobs(preset, read_manifest(bundle), {}) if preset else {}
        found |= {"preset": preset, **knobs, "rows": rows}
        hand_over("quality", found, before, json_file)
