"""The pictures that layouts name, as arrays: masks, label maps and depth."""

from pathlib import Path

import numpy as np
from PIL import Image

from runtime.errors import FieldError
from runtime.layouts.files import Picture, open_picture
from runtime.layouts.palette import UNLABELLED, ade20k
from runtime.layouts.suspects import COLOURED_LABELS, DEPTH, LABELS, MASK, refuse

ImageSource = np.ndarray | Image.Image | Path | str

ID_MODES = ("P", "L", "I", "I;16", "I;16B", "I;16L", "I;16N")  # Pillow's modes of one whole number a pixel
COLOUR_MODES = ("RGB", "RGBA")


def read_mask(source: ImageSource, phrase: str) -> np.ndarray:
    """As float64 (H,W) in 0..1."""
    values = source if isinstance(source, np.ndarray) else _mask_values(open_picture(source, "mask"))
    if values.ndim != 2 or not (values.dtype.kind in "bf" or values.dtype in (np.uint8, np.uint16)):
        raise FieldError(
            "mask",
            f"the mask of {phrase!r} is {values.dtype} {values.shape}; give (H,W) of bool, float in 0..1, "
            "uint8 or uint16",
        )
    scaled = values.astype(np.float64) / (np.iinfo(values.dtype).max if values.dtype.kind == "u" else 1)
    if not _within_0_1(scaled):
        raise FieldError("mask", f"the mask of {phrase!r} has values outside 0..1")
    if scaled.max() < 0.5:
        raise FieldError("mask", f"the mask of {phrase!r} is empty: its largest value is {scaled.max():.3g} of 1")
    return scaled


def read_labels(source: ImageSource) -> np.ndarray:
    """A label map's class ids, uint8 (H,W); UNLABELLED where there is none.

    Raises:
        FieldError: not a readable picture, not one class id a pixel, an id above 255, or plainly something else.
    """
    values = source if isinstance(source, np.ndarray) else _ids(open_picture(source, "segmentation"))
    if values.ndim != 2 or values.size == 0 or values.dtype.kind not in "iu":
        raise FieldError("segmentation", f"the label map is {values.dtype} {values.shape}; give (H,W) of class ids")
    if values.min() < 0 or values.max() > UNLABELLED:
        raise FieldError(
            "segmentation",
            f"the label map's class ids span {values.min()} to {values.max()}; they are 0 to 254, and "
            f"{UNLABELLED} for no class",
        )
    return values.astype(np.uint8)


def read_depth(source: ImageSource) -> np.ndarray:
    """Depth as float32 (H,W) in 0..1, near = 1: floats as they are, 8 and 16 bits as fractions of their largest value.

    Raises:
        FieldError: not a readable picture, values outside the range, or plainly something else.
    """
    values = source if isinstance(source, np.ndarray) else _depth_values(open_picture(source, "depth"))
    if values.ndim != 2 or not (values.dtype.kind == "f" or values.dtype in (np.uint8, np.uint16)):
        raise FieldError(
            "depth",
            f"the depth is {values.dtype} {values.shape}; give (H,W) of float in 0..1, uint8 or uint16, near = bright",
        )
    scaled = values.astype(np.float32) / (1 if values.dtype.kind == "f" else np.iinfo(values.dtype).max)
    if not _within_0_1(scaled):
        raise FieldError("depth", "the depth has values outside 0..1")
    return scaled


def _within_0_1(values: np.ndarray) -> bool:
    """False also of NaN, and where there is no value."""
    return values.size > 0 and bool(values.min() >= 0 and values.max() <= 1)


def _mask_values(picture: Picture) -> np.ndarray:
    if picture.stencil is not None:
        return picture.stencil
    refuse(picture, "mask", MASK)
    return picture.grey


def _ids(picture: Picture) -> np.ndarray:
    if picture.has_colours and picture.image.mode in COLOUR_MODES:
        return _ids_of_colours(picture)
    if picture.image.mode not in ID_MODES:
        raise FieldError(
            "segmentation",
            f"the label map's pixels are {picture.image.mode}, not class ids; save it as a palette or grey PNG, "
            "id = class",
        )
    refuse(picture, "segmentation", LABELS)
    return picture.values


def _ids_of_colours(picture: Picture) -> np.ndarray:
    """Of a map in ADE20K's colours, as OneFormer, UniFormer and the segmentation ControlNets' annotators paint it."""
    refuse(picture, "segmentation", COLOURED_LABELS)
    return ade20k().ids_of(picture.rgba[..., :3])


def _depth_values(picture: Picture) -> np.ndarray:
    refuse(picture, "depth", DEPTH)
    return picture.grey
