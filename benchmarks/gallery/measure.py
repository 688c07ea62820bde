"""One scene through every bundle, in pictures: what is given, each model alone, RealCompo, and how it weighed them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from benchmarks.quality.measure import RegionKind, Sampling, layout_of, outputs
from benchmarks.tabletop.scenes import Scene
from runtime import Layout, RealCompo
from runtime.bundle.manifest import Manifest
from runtime.layouts.pictures import bare, outline, region_colors
from runtime.spatial.control_images import control_picture

COLUMNS = ("given", "text-to-image alone", "spatial alone", "RealCompo", "weight of spatial, mean")
BLANK = (232, 232, 232)


@dataclass(frozen=True)
class Row:
    """One bundle's pictures of a scene."""

    name: str
    given: tuple[Image.Image, ...]  # the control images, or a blank one for GLIGEN's boxes
    layout: Layout
    images: tuple[Image.Image, ...]  # text-to-image alone, spatial alone, RealCompo
    weight: np.ndarray  # (h,w) in 0..1, of the spatial model, mean over the evaluations
    outlined: bool  # whether the regions themselves are what is given


def draw_row(bundle: Path, scene: Scene, sampling: Sampling, seed: int) -> Row:
    """Every picture from the same latents.

    Raises:
        RealCompoError: the bundle does not load, or is not for scenes like these.
    """
    pipe, layout = RealCompo.load(bundle), layout_of(scene, sampling.regions)
    drawn = [
        next(outputs(pipe, [scene], sampling, gradient=mode, seed=seed, trace=mode == "exact"))
        for mode in ("text_to_image", "spatial", "exact")
    ]
    weights = torch.stack([step.spatial_weight[0] for step in drawn[-1].trace])
    images = tuple(output.images[0] for output in drawn)
    manifest, weight = pipe.manifest, weights.mean(0).numpy(force=True)
    name, given = _name(manifest, sampling.regions), _given(manifest, layout)
    return Row(name, given, layout, images, weight, outlined=not manifest.controls)


def draw_gallery(rows: Sequence[Row], caption: str) -> Figure:
    figure = Figure(figsize=(2 * len(COLUMNS), 2.05 * len(rows) + 0.5), layout="constrained")
    axes = figure.subplots(len(rows), len(COLUMNS), squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        pictures = [Image.fromarray(np.hstack([np.asarray(image) for image in row.given])), *row.images]
        for place, picture in zip(line, pictures, strict=False):
            place.imshow(picture, extent=(0, 1, 1, 0), interpolation="lanczos")
            bare(place)
        if row.outlined:
            for region, color in zip(row.layout.regions, region_colors(row.layout), strict=True):
                outline(line[0], region, color)
        line[-1].imshow(row.weight, extent=(0, 1, 1, 0), vmin=0, vmax=1, cmap="viridis")
        bare(line[-1])
        line[0].set_ylabel(row.name)
    for place, title in zip(axes[0], COLUMNS, strict=True):
        place.set_title(title, fontsize=10)
    figure.suptitle(caption, fontsize=11)
    return figure


def _name(manifest: Manifest, regions: RegionKind) -> str:
    given = " and ".join(manifest.controls) or {"box": "layout"}.get(regions, regions)
    return "\n".join([given, *(Path(lora.source).stem for lora in manifest.pair.loras)])


def _given(manifest: Manifest, layout: Layout) -> tuple[Image.Image, ...]:
    if not manifest.controls:
        return (Image.new("RGB", manifest.image_size[::-1], BLANK),)
    return tuple(control_picture(layout, kind, manifest.image_size) for kind in manifest.controls)
