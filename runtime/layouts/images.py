"""The pictures that layouts name, as arrays: masks, label maps and depth."""

from pathlib import Path

import numpy as np
from PIL import Image

from runtime.errors import FieldError

ImageSource = np.ndarray | Image.Image | Path | str

UNLABELLED = 255  # the class id of a label map's pixels that belong to no class
DEEP_MODES = ("I", "I;16", "I;16B", "F")  # Pillow's one-channel modes of over 8 bits


def read_mask(source: ImageSource, phrase: str) -> np.ndarray:
    """As float64 (H,W) in 0..1."""
    values = source if isinstance(source, np.ndarray) else np.asarray(_open(source, "mask").convert("L"))
    if values.ndim != 2 or not (values.dtype.kind in "bf" or values.dtype == np.uint8):
        raise FieldError(
            "mask",
            f"the mask of {phrase!r} is {values.dtype} {values.shape}; give (H,W) of bool, float in 0..1 or uint8",
        )
    scaled = values.astype(np.float64) / (255 if values.dtype == np.uint8 else 1)
    if not _within_0_1(scaled):
        raise FieldError("mask", f"the mask of {phrase!r} has values outside 0..1")
    if scaled.max() < 0.5:
        raise FieldError("mask", f"the mask of {phrase!r} is empty: its largest value is {scaled.max():.3g} of 1")
    return scaled


def read_labels(source: ImageSource) -> np.ndarray:
    """A label map's class ids, uint8 (H,W); UNLABELLED where there is none.

    Raises:
        FieldError: not a readable picture, not one class id a pixel, or an id above 255.
    """
    values = source if isinstance(source, np.ndarray) else _read_ids(_open(source, "segmentation"))
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
        FieldError: not a readable picture, or values outside the range.
    """
    values = source if isinstance(source, np.ndarray) else _read_grey(_open(source, "depth"))
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


def _read_ids(image: Image.Image) -> np.ndarray:
    if image.mode not in ("P", "L", "I", "I;16"):
        raise FieldError(
            "segmentation",
            f"the label map's pixels are {image.mode}, not class ids; save it as a palette or grey PNG, id = class",
        )
    return np.asarray(image)


def _read_grey(image: Image.Image) -> np.ndarray:
    values = np.asarray(image if image.mode in DEEP_MODES else image.convert("L"))
    if values.dtype.kind == "i" and values.min() >= 0 and values.max() <= 65535:  # mode I holds 16 bits in 32
        return values.astype(np.uint16)
    return values


def _open(source: Image.Image | Path | str, what: str) -> Image.Image:
    if isinstance(source, Image.Image):
        return source
    try:
        image = Image.open(source)
        image.load()
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise FieldError(what, f"cannot read the {what} {source}: {' '.join(str(error).split())}") from error
    return image
