"""Quality of each way of combining the two models, scored on Tabletop scenes with known layouts."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.drawing import SceneSampling, outputs
from benchmarks.tabletop.scenes import CATEGORIES, Scene, held_out_scenes
from benchmarks.tabletop.score import Scores, mean_scores, score_image
from runtime import RealCompo

MODES = ("text_to_image", "spatial", "handover", "fixed:0.5", "none", "surrogate", "exact")


def score_mode(pipe: RealCompo, scenes: Sequence[Scene], mode: str, sampling: SceneSampling) -> dict[str, Scores]:
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
    bundle: Path, count: int, modes: Sequence[str], sampling: SceneSampling
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
