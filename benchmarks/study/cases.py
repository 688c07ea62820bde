"""What a study draws: prompts with layouts, and pictures whose truth is known."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from runtime import Layout
from runtime.errors import RealCompoError
from runtime.words import MODELS, Model

FINE = (64, 64)  # at which regions are told apart


@dataclass(frozen=True)
class Case:
    """One composition.

    Args:
        layout: with its prompt.
        category: what kind of composition it is, if there are kinds.
        pictures: for each model a picture in its style, with each object in its region; none where there is none.
    """

    layout: Layout
    category: str | None = None
    pictures: Mapping[Model, Image.Image] = field(default_factory=dict)

    @property
    def prompt(self) -> str:
        assert self.layout.prompt is not None
        return self.layout.prompt

    @property
    def objects(self) -> int:
        return len(self.layout.regions)

    def digest(self) -> str:
        """Of all that a pipeline is told."""
        told = hashlib.sha256(self.prompt.encode())
        for region in self.layout.regions:
            told.update(region.phrase.encode() + region.mask_at(FINE).tobytes() + repr(region.keypoints).encode())
        for control in (self.layout.segmentation, self.layout.depth, *self.layout.control.values()):
            told.update(control.tobytes() if isinstance(control, np.ndarray) else b"-")
        return told.hexdigest()


def read_cases(folder: Path, most: int) -> list[Case]:
    """The layout files in a folder, in the order of their names, each with the picture of its name if there is one.

    Raises:
        RealCompoError: no layouts, a damaged one, or one without a prompt or regions.
    """
    files = sorted(folder.glob("*.json"))[:most]
    if not files:
        raise RealCompoError(f"--layouts {folder} has no layout files; give a folder of layouts such as scene.json")
    return [_read(file) for file in files]


def _read(file: Path) -> Case:
    layout = Layout.from_file(file)
    if layout.prompt is None or not layout.regions:
        raise RealCompoError(f"{file} lacks {'regions' if layout.prompt else 'a prompt'}; a study draws with both")
    picture = file.with_suffix(".png")
    pictures = dict.fromkeys(MODELS, Image.open(picture).convert("RGB")) if picture.is_file() else {}
    return Case(layout, None, pictures)
