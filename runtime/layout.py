"""Layouts: where each object of the prompt belongs, given in code or in a JSON file."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from runtime.errors import RealCompoError

Box = tuple[float, float, float, float]
Point = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Region:
    """An object's phrase and its place: exactly one of a box, a mask and keypoints.

    Args:
        phrase: the object's words, which the prompt contains too.
        box: (x0, y0, x1, y1), fractions of width and height, origin top left.
        mask: over the whole image at any resolution: a PIL image, the path of one, or a numpy array (H,W) of bool,
            of float in 0..1 or of uint8 in 0..255.
        keypoints: (x, y) each, in fractions; the region is the box around them.
        tokens: the indices of the prompt's tokens that speak of the object, instead of those that its words match.

    Raises:
        RealCompoError: a place that is missing, given twice, empty, or outside the image.
    """

    phrase: str
    box: Box | None = None
    mask: np.ndarray | Image.Image | Path | str | None = None
    keypoints: Sequence[Point] | None = None
    tokens: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if not self.phrase.strip():
            raise RealCompoError("a region's phrase is empty; give the object's words, such as 'a red ball'")
        given = [name for name in ("box", "mask", "keypoints") if getattr(self, name) is not None]
        if len(given) != 1:
            raise RealCompoError(
                f"region {self.phrase!r} has {' and '.join(given) or 'no place'}; give one of box, mask, keypoints"
            )
        if self.mask is not None:
            object.__setattr__(self, "mask", _read_mask(self.mask, self.phrase))
        elif self.keypoints is not None:
            _check_box(_box_around(self.keypoints, self.phrase), f"the box around the keypoints of {self.phrase!r}")
        else:
            _check_box(self.bounding_box(), f"the box of {self.phrase!r}")

    def bounding_box(self) -> Box:
        """(x0, y0, x1, y1) in fractions: the box, or that around the keypoints or the mask's pixels above 0.5."""
        if self.box is not None:
            return self.box
        if self.keypoints is not None:
            return _box_around(self.keypoints, self.phrase)
        assert isinstance(self.mask, np.ndarray)
        (top, bottom), (left, right) = (_extent(self.mask.max(axis=axis) >= 0.5) for axis in (1, 0))
        return left, top, right, bottom

    def mask_at(self, resolution: tuple[int, int]) -> np.ndarray:
        """How much of each cell the region covers: (height, width) float32 in 0..1, exact."""
        height, width = resolution
        if isinstance(self.mask, np.ndarray):
            rows, columns = (_pixel_edges(size) for size in self.mask.shape)
            cover = _coverage(rows, height).T @ self.mask @ _coverage(columns, width)
        else:
            x0, y0, x1, y1 = self.bounding_box()
            cover = _coverage(np.array([y0, y1]), height).T @ _coverage(np.array([x0, x1]), width)
        return np.asarray(cover.clip(0, 1), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Layout:
    """The regions of one image, and the prompt where a file gave it."""

    regions: Sequence[Region]
    prompt: str | None = None

    @classmethod
    def from_file(cls, path: Path | str) -> "Layout":
        """Read a layout.json. Paths of masks are relative to its folder and stay inside it.

        Raises:
            RealCompoError: the file is missing or damaged, or a field is wrong; the message names it.
        """
        path = Path(path)
        try:
            file = _LayoutFile.model_validate_json(path.read_bytes())
        except OSError as error:
            raise RealCompoError(f"cannot read the layout {path}: {error.strerror}") from error
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "the file"
            raise RealCompoError(f"{path}: {field}: {first['msg']}") from error
        return cls([_region_from_file(region, i, path) for i, region in enumerate(file.regions)], file.prompt)


class _Schema(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _RegionFile(_Schema):
    phrase: str
    box: Box | None = None
    mask: str | None = None
    keypoints: list[Point] | None = None
    tokens: list[int] | None = None


class _LayoutFile(_Schema):
    prompt: str | None = None
    regions: list[_RegionFile]


def _region_from_file(region: _RegionFile, i: int, path: Path) -> Region:
    try:
        mask = None if region.mask is None else _inside(path.parent, region.mask)
        return Region(region.phrase, region.box, mask, region.keypoints, region.tokens)
    except RealCompoError as error:
        raise RealCompoError(f"{path}: regions.{i}: {error}") from error


def _inside(folder: Path, name: str) -> Path:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise RealCompoError(f"mask {name!r} leaves the layout's folder; put it beside the layout")
    return path


def _check_box(box: Box, name: str) -> None:
    if len(box) != 4 or not all(math.isfinite(edge) for edge in box):
        raise RealCompoError(f"{name} is {box}; give four numbers: x0, y0, x1, y1")
    x0, y0, x1, y1 = box
    if min(box) < 0 or max(box) > 1:
        raise RealCompoError(f"{name} is {box}; coordinates are fractions of the image, 0 to 1")
    if x1 <= x0 or y1 <= y0:
        raise RealCompoError(f"{name} is {box}, which is empty; x1 must be above x0, and y1 above y0")


def _box_around(points: Iterable[Point], phrase: str) -> Box:
    array = np.asarray(list(points), dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 2:
        raise RealCompoError(f"the keypoints of {phrase!r} are not a list of (x, y)")
    (x0, y0), (x1, y1) = array.min(axis=0).tolist(), array.max(axis=0).tolist()
    return x0, y0, x1, y1


def _read_mask(mask: np.ndarray | Image.Image | Path | str, phrase: str) -> np.ndarray:
    """As float64 (H,W) in 0..1."""
    values = mask if isinstance(mask, np.ndarray) else np.asarray(_open_image(mask).convert("L"))
    if values.ndim != 2 or values.dtype.kind not in "bfu" or (values.dtype.kind == "u" and values.dtype != np.uint8):
        raise RealCompoError(
            f"the mask of {phrase!r} is {values.dtype} {values.shape}; give (H,W) of bool, float in 0..1 or uint8"
        )
    scaled = values.astype(np.float64) / (255 if values.dtype == np.uint8 else 1)
    if scaled.size == 0 or not (scaled.min() >= 0 and scaled.max() <= 1):
        raise RealCompoError(f"the mask of {phrase!r} has values outside 0..1")
    if scaled.max() < 0.5:
        raise RealCompoError(f"the mask of {phrase!r} is empty: its largest value is {scaled.max():.3g} of 1")
    return scaled


def _open_image(mask: Image.Image | Path | str) -> Image.Image:
    if isinstance(mask, Image.Image):
        return mask
    try:
        image = Image.open(mask)
        image.load()
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise RealCompoError(f"cannot read the mask {mask}: {' '.join(str(error).split())}") from error
    return image


def _extent(covered: np.ndarray) -> tuple[float, float]:
    """Where a line of pixels starts and ends to be covered, in fractions."""
    indices = np.flatnonzero(covered)
    return float(indices[0] / len(covered)), float((indices[-1] + 1) / len(covered))


def _pixel_edges(count: int) -> np.ndarray:
    return np.linspace(0, 1, count + 1)


def _coverage(edges: np.ndarray, cells: int) -> np.ndarray:
    """The share of each of `cells` equal cells of 0..1 that each interval between edges covers: (intervals, cells)."""
    grid = _pixel_edges(cells)
    starts, ends = edges[:-1, None], edges[1:, None]
    return np.maximum(np.minimum(ends, grid[1:]) - np.maximum(starts, grid[:-1]), 0) * cells
