"""Quality of each way of combining the two models, scored on Tabletop scenes with known layouts."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, assert_never

import numpy as np

from benchmarks.tabletop.scenes import (
    CATEGORIES,
    Scene,
    Thing,
    coverage,
    depth_map,
    label_map,
    landmarks,
    sample_scene,
)
from benchmarks.tabletop.score import Scores, mean_scores, score_image
from runtime import Layout, RealCompo, Region
from runtime.output import Output

MODES = ("text_to_image", "spatial", "fixed:0.5", "none", "surrogate", "exact")
SEED = 1_000_003  # no scene of the training set is drawn from it

RegionKind = Literal["box", "mask", "keypoints"]


@dataclass(frozen=True)
class Sampling:
    """How every mode draws its images."""

    steps: int
    sampler: str
    guidance_scale: float
    batch: int
    coefficient_scale: float = 1e6
    update_every: int = 1
    regions: RegionKind = "box"


def held_out_scenes(count: int) -> list[Scene]:
    """`count` scenes, the categories in turn."""
    return [sample_scene(np.random.default_rng((SEED, i)), CATEGORIES[i % len(CATEGORIES)]) for i in range(count)]


def outputs(pipe: RealCompo, scenes: Sequence[Scene], sampling: Sampling, **options: Any) -> Iterator[Output]:
    """A batch of scenes after the other, from the same latents and coefficients whatever the options."""
    for start in range(0, len(scenes), sampling.batch):
        chunk = scenes[start : start + sampling.batch]
        yield pipe(
            [scene.caption for scene in chunk],
            layout=[layout_of(scene, sampling.regions) for scene in chunk],
            steps=sampling.steps,
            sampler=sampling.sampler,
            guidance_scale=sampling.guidance_scale,
            **{
                "seed": start,
                "coefficient_scale": sampling.coefficient_scale,
                "update_every": sampling.update_every,
                **options,
            },
        )


def layout_of(scene: Scene, regions: RegionKind = "box") -> Layout:
    """The objects' places, and the maps that ControlNets see."""
    return Layout(
        [_region(thing, regions) for thing in scene.things], segmentation=label_map(scene), depth=depth_map(scene)
    )


def _region(thing: Thing, kind: RegionKind) -> Region:
    match kind:
        case "box":
            return Region(thing.phrase, box=thing.box)
        case "mask":
            return Region(thing.phrase, mask=coverage(thing))
        case "keypoints":
            return Region(thing.phrase, keypoints=landmarks(thing))
    assert_never(kind)


def score_mode(pipe: RealCompo, scenes: Sequence[Scene], mode: str, sampling: Sampling) -> dict[str, Scores]:
    """Mean scores by category, and over all of them as `overall`."""
    drawn = outputs(pipe, scenes, sampling, gradient=mode)
    images = [np.asarray(image) / 255 for output in drawn for image in output.images]
    scores = [score_image(image, scene) for image, scene in zip(images, scenes, strict=True)]
    by_category = {
        category: mean_scores(score for score, scene in zip(scores, scenes, strict=True) if scene.category == category)
        for category in CATEGORIES
    }
    return by_category | {"overall": mean_scores(scores)}


def measure(
    bundle: Path, count: int, modes: Sequence[str], sampling: Sampling
) -> Iterator[tuple[str, dict[str, Scores]]]:
    """(mode, scores by category) of each mode, as soon as it is known."""
    pipe, scenes = RealCompo.load(bundle), held_out_scenes(count)
    for mode in modes:
        yield mode, score_mode(pipe, scenes, mode, sampling)


def as_row(mode: str, scores: dict[str, Scores]) -> dict[str, object]:
    """A row of the JSON result: overall figures, then each category's."""
    categories = {category: _rounded(scores[category]) for category in CATEGORIES}
    return {"mode": mode, **_rounded(scores["overall"]), "categories": categories}


def _rounded(scores: Scores) -> dict[str, float]:
    return {name: round(value, 4) for name, value in asdict(scores).items()}
