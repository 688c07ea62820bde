"""Opening the files of pictures: the right way up, one picture, and what it is made of."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from runtime.errors import FieldError

# The modes that are read, and the bits of a channel where they are more than 8
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")
DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")
LOSSY = ("JPEG", "MPO")  # formats that change values
COLOUR_NOISE = 24  # of 255: what JPEG makes of grey


@dataclass(frozen=True, eq=False)
class Picture:
    """An image, and what tells what it holds."""

    image: Image.Image
    lossy: bool = False  # from a file whose format changes values

    @cached_property
    def rgba(self) -> np.ndarray:
        """uint8 (H,W,4); of images of 8 bits a channel alone."""
        return np.asarray(self.image.convert("RGBA"))

    @cached_property
    def values(self) -> np.ndarray:
        """(H,W): the palette's indices or the grey, in the file's own numbers; of colours their brightness."""
        if self.image.mode in DEEP:
            deep = np.asarray(self.image)
            whole = deep.dtype.kind in "iu" and deep.min() >= 0 and deep.max() <= 65535
            return deep.astype(np.uint16) if whole else deep  # mode I holds 16 bits in 32
        if self.image.mode in ("1", "L", "P"):
            return np.asarray(self.image)
        return np.asarray(self.image.convert("L"))

    @cached_property
    def grey(self) -> np.ndarray:
        """(H,W): as `values`, but a palette's colours instead of its indices."""
        return np.asarray(self.image.convert("L")) if self.image.mode == "P" else self.values

    @property
    def deep(self) -> bool:
        return self.image.mode in DEEP

    @property
    def is_coloured(self) -> bool:
        """Whether more than a hundredth of the pixels are no grey."""
        return bool(self._colourful.mean() > 0.01)

    @property
    def has_colours(self) -> bool:
        """Whether any pixel is no grey."""
        return bool(self._colourful.any())

    @cached_property
    def _colourful(self) -> np.ndarray:
        """bool (H,W)."""
        if self.deep:
            return np.zeros((self.image.height, self.image.width), dtype=bool)
        colours = self.rgba[..., :3].astype(np.int16)
        return np.asarray(colours.max(axis=2) - colours.min(axis=2) > COLOUR_NOISE)

    @property
    def top(self) -> float:
        """White in `grey`."""
        return 1 if self.grey.dtype.kind in "fb" else int(np.iinfo(self.grey.dtype).max)

    @property
    def alpha(self) -> np.ndarray | None:
        """uint8 (H,W), where it says anything."""
        if self.deep or not (self.image.mode in ("RGBA", "LA", "PA") or "transparency" in self.image.info):
            return None
        alpha = self.rgba[..., 3]
        return None if alpha.min() == 255 else alpha

    @property
    def stencil(self) -> np.ndarray | None:
        """The alpha, uint8 (H,W), of a picture that is white and nothing else, or one colour where it is seen at all.

        Not of black: a hole in a black picture is a mask too.
        """
        if self.alpha is None:
            return None
        seen = self.rgba[..., :3][self.alpha > 0]
        is_one_colour = seen.size > 0 and (seen == seen[0]).all() and seen.max() > COLOUR_NOISE
        return self.alpha if is_one_colour else None

    @property
    def palette(self) -> np.ndarray | None:
        """Of a palette's picture: the colours of its indices, uint8 (n,3)."""
        colours = self.image.getpalette("RGB") if self.image.mode == "P" else None
        return None if colours is None else np.array(colours, dtype=np.uint8).reshape(-1, 3)


def open_picture(source: Image.Image | Path | str, what: str) -> Picture:
    """The picture as viewers show it.

    Raises:
        FieldError: it cannot be read, has several frames or no pixel, or its colours are of a kind that is not read.
    """
    image = source if isinstance(source, Image.Image) else load_picture(source, what)
    if image.mode not in MODES or not image.width * image.height:
        raise FieldError(what, f"the {what} is {image.mode} of {image.size}; save it as a grey or RGB PNG")
    return Picture(image, lossy=image.format in LOSSY)


def load_picture(
    source: Path | str | BytesIO,
    what: str,
    formats: tuple[str, ...] | None = None,
    check_size: Callable[[tuple[int, int]], None] = lambda size: None,
) -> Image.Image:
    """The picture in a file, or in bytes as it has them, loaded and the right way up.

    Args:
        formats: those that are read; None: all that Pillow knows.
        check_size: raises FieldError of a (width, height) that is not to be decoded.

    Raises:
        FieldError: it cannot be read, or has several frames.
    """
    name = f"the {what}" if isinstance(source, BytesIO) else f"the {what} {source}"
    try:
        with warnings.catch_warnings(action="ignore"):  # what Pillow says of files is not for our users
            file = Image.open(source, formats=formats)
            check_size(file.size)
            frames = getattr(file, "n_frames", 1)
            image = ImageOps.exif_transpose(file)  # which loads it
            image.format = file.format
    except FieldError:
        raise
    except UnidentifiedImageError as error:
        raise FieldError(what, f"cannot read {name}: it is no {' or '.join(formats or ['picture'])}") from error
    except Exception as error:  # a damaged file makes Pillow's readers raise whatever it likes
        raise FieldError(what, f"cannot read {name}: {' '.join(str(error).split())[:100]}") from error
    if frames > 1:
        raise FieldError(what, f"{name} has {frames} frames; save one of them as a PNG")
    return image


def beside(layout: Path, name: str, field: str) -> Path:
    """A file that a layout names: in its folder or below it.

    Raises:
        FieldError: it is elsewhere, or no name of a file.
    """
    folder = layout.parent.resolve()
    try:
        path = (folder / name).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a zero byte
        raise FieldError(field, f"{name!r} is no name of a file: {error}") from error
    if not path.is_relative_to(folder):
        raise FieldError(field, f"{name!r} leaves the layout's folder; put it beside the layout")
    return path
