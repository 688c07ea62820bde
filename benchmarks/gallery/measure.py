"""One scene through every bundle, in pictures: what is given, each model alone, both together, and their weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.drawing import SceneSampling
from benchmarks.gallery.subjects import Subject
from runtime import Layout, RealCompo
from runtime.bundle.manifest import Manifest
from runtime.output import Output
from runtime.spatial import KINDS
from runtime.spatial.control_images import control_picture

BLANK = (232, 232, 232)
ALONE = ("text_to_image", "spatial")
RECOMMENDED = "recommended"  # a mode: what the bundle recommends


@dataclass(frozen=True)
class Row:
    """One bundle's pictures of a scene."""

    name: str
    caption: str
    given: tuple[Image.Image, ...]  # the control images, or a blank one for GLIGEN's boxes
    layout: Layout
    images: tuple[Image.Image, ...]  # text-to-image alone, spatial alone, each mode of both
    weight: np.ndarray  # (h,w) in 0..1, of the spatial model in the first mode of both, mean over the evaluations
    outlined: bool  # whether the regions themselves are what is given


def draw_row(
    bundle: Path, subject: Subject, sampling: SceneSampling, seed: int, modes: Sequence[str] = ("exact",)
) -> Row:
    """Every picture from the same latents.

    Args:
        modes: of both models, as `gradient` takes them, or `recommended`.

    Raises:
        RealCompoError: the bundle does not load, is not for scenes like these, or recommends nothing.
    """
    pipe = RealCompo.load(bundle)
    drawn = [_draw(pipe, subject, sampling, seed, mode, trace=mode == modes[0]) for mode in (*ALONE, *modes)]
    weights = torch.stack([step.spatial_weight[0] for step in drawn[len(ALONE)].trace])
    images = tuple(output.images[0] for output in drawn)
    manifest, weight = pipe.manifest, weights.mean(0).numpy(force=True)
    name, given = _name(manifest, subject), _given(manifest, subject.layout)
    outlined = not manifest.spatial.controls
    return Row(name, subject.caption, given, subject.layout, images, weight, outlined)


def _draw(pipe: RealCompo, subject: Subject, sampling: SceneSampling, seed: int, mode: str, trace: bool) -> Output:
    knobs = {**sampling.knobs(), "coefficient_scale": sampling.coefficient_scale, **_told(pipe, mode, sampling)}
    return pipe(subject.caption, layout=subject.layout, seed=seed, trace=trace, **knobs)


def _told(pipe: RealCompo, mode: str, sampling: SceneSampling) -> dict[str, Any]:
    return pipe.preset(RECOMMENDED, **sampling.knobs()) if mode == RECOMMENDED else {"gradient": mode}


def _name(manifest: Manifest, subject: Subject) -> str:
    given = " and ".join(manifest.spatial.controls) or subject.places
    form = KINDS[manifest.spatial.kind].single if manifest.spatial.controls else None
    lines = [subject.kind, given, form, *(Path(lora.source).stem for lora in manifest.pair.loras)]
    return "\n".join(filter(None, lines))


def _given(manifest: Manifest, layout: Layout) -> tuple[Image.Image, ...]:
    if not manifest.spatial.controls:
        return (Image.new("RGB", manifest.image_size[::-1], BLANK),)
    return tuple(control_picture(layout, kind, manifest.image_size) for kind in manifest.spatial.controls)
