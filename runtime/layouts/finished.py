"""Finished control pictures: what an annotator, an artist or a renderer made for a ControlNet or a T2I-Adapter to see.

A row of `FINISHED` a kind, as ControlNet 1.1 (arXiv 2302.05543 and its repository) and its successors name them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from runtime.errors import FieldError
from runtime.layouts.files import Picture, open_picture
from runtime.layouts.images import ImageSource
from runtime.layouts.suspects import (
    DRAWN_LINES,
    HOLED,
    NORMALS,
    PAINTED_CLASSES,
    PHOTOGRAPH,
    POSES,
    SHOWN_DEPTH,
    SOFT_LINES,
    Suspicion,
    refuse,
)


@dataclass(frozen=True)
class Finished:
    """What a kind's picture is, and what it is not."""

    shows: str  # for people
    suspicions: tuple[Suspicion, ...]
    blends: bool = True  # resized with colours between its own, which a map of classes must not have
    holes: bool = False  # what is transparent is to be filled


FINISHED: Mapping[str, Finished] = {
    "openpose": Finished("people in OpenPose's colours on black", POSES),
    "segmentation": Finished("classes in the colours that the model was trained with", PAINTED_CLASSES, blends=False),
    "depth": Finished("depth in grey, near is bright", SHOWN_DEPTH),
    "scribble": Finished("thick lines, white on black", DRAWN_LINES),
    "canny": Finished("Canny's edges, white on black", DRAWN_LINES),
    "lineart": Finished("an artist's lines, white on black", SOFT_LINES),
    "lineart_anime": Finished("an anime artist's lines, white on black", SOFT_LINES),
    "softedge": Finished("soft edges as HED and PiDiNet find them, white on black", SOFT_LINES),
    "mlsd": Finished("straight lines, white on black", DRAWN_LINES),
    "normal": Finished("normals as colours: x red, y green, z blue", NORMALS),
    "tile": Finished("the picture whose details are to be drawn anew", PHOTOGRAPH),
    "ip2p": Finished("the picture that the prompt says how to change", PHOTOGRAPH),
    "shuffle": Finished("a picture whose colours and style are to be taken", PHOTOGRAPH),
    "inpaint": Finished("the picture, transparent where it is to be filled", HOLED, holes=True),
}


def read_control(source: ImageSource, kind: str) -> np.ndarray:
    """A finished picture as uint8 (H,W,3) RGB, or (H,W,4) of a kind that has holes.

    Raises:
        FieldError: no such kind, not a readable picture, or plainly one of something else.
    """
    if kind not in FINISHED:
        raise FieldError("control", f"there is no kind of control picture {kind!r}; there are {', '.join(FINISHED)}")
    field, channels = f"control.{kind}", 4 if FINISHED[kind].holes else 3
    if not isinstance(source, np.ndarray):
        picture = open_picture(source, field)
        refuse(picture, field, FINISHED[kind].suspicions)
        return _pixels(picture)[..., :channels]
    if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != channels or source.size == 0:
        raise FieldError(field, f"the {field} is {source.dtype} {source.shape}; give (H,W,{channels}) of uint8")
    return source


def resized(picture: np.ndarray, kind: str, size: tuple[int, int]) -> np.ndarray:
    """A finished picture at another `size` (H,W): float32 (H,W,3) in 0..1, and -1 where it is to be filled.

    Colours are blended as diffusers' pipelines do; -1 is what ControlNet 1.1's inpainting was trained with.
    """
    height, width = size
    how = Image.Resampling.LANCZOS if FINISHED[kind].blends else Image.Resampling.NEAREST
    colours = np.asarray(Image.fromarray(np.ascontiguousarray(picture[..., :3])).resize((width, height), how))
    image = colours / np.float32(255)
    if FINISHED[kind].holes:
        alpha = Image.fromarray(np.ascontiguousarray(picture[..., 3]))
        image[np.asarray(alpha.resize((width, height), Image.Resampling.NEAREST)) < 128] = -1
    return image


def _pixels(picture: Picture) -> np.ndarray:
    """uint8 (H,W,4)."""
    if not picture.deep:
        return picture.rgba
    grey = np.round(picture.grey.astype(np.float64) * 255 / picture.top).astype(np.uint8)
    return np.dstack([grey] * 3 + [np.full_like(grey, 255)])
