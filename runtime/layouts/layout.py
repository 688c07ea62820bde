"""Layouts: where each object of the prompt belongs, given in code or in a JSON file."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from runtime.errors import FieldError, RealCompoError
from runtime.layouts.files import beside
from runtime.layouts.finished import read_control
from runtime.layouts.geometry import Box, Keypoint, coverage, extent, pixel_edges, whole_cells
from runtime.layouts.images import ImageSource, read_depth, read_labels, read_mask
from runtime.layouts.keypoints import box_around, clean
from runtime.layouts.openpose import read_openpose
from runtime.layouts.other_tools import OtherTools
from runtime.layouts.palette import class_id
from runtime.layouts.schema import LayoutFile, RegionFile, read_layout_file

PLACES = ("box", "mask", "keypoints")


@dataclass(frozen=True, eq=False)
class Region:
    """An object's phrase and its place: exactly one of a box, a mask and keypoints, or else a label.

    Args:
        phrase: the object's words, which the prompt contains too.
        box: (x0, y0, x1, y1), fractions of width and height, origin top left.
        mask: over the whole image at any resolution: a PIL image, the path of one, or a numpy array (H,W) of bool,
            of float in 0..1 or of uint8 in 0..255.
        keypoints: (x, y) each, in fractions, or None for one that is not seen, as are (0, 0) and (-1, -1) of a body's
            17, 18 or 25, and kept so; the region is what the image has of the box around them, and points may lie
            outside it. `read_openpose` reads them from a file.
        tokens: the indices of the prompt's tokens that speak of the object, instead of those that its words match.
        label: the object's class in a segmentation: its id, or its name in ADE20K, which is kept as the id. A region
            that has no other place gets one from its layout: the pixels of this class in `Layout.segmentation`.
        layer: which regions are nearer: where two overlap, the one of the higher layer covers the other.

    Raises:
        RealCompoError: a place that is missing, given twice, empty, or outside the image, or an unknown label.
    """

    phrase: str
    box: Box | None = None
    mask: ImageSource | None = None
    keypoints: Sequence[Keypoint] | None = None
    tokens: Sequence[int] | None = None
    label: int | str | None = None
    layer: int = 0

    def __post_init__(self) -> None:
        if not self.phrase.strip():
            raise FieldError("phrase", "a region's phrase is empty; give the object's words, such as 'a red ball'")
        if self.label is not None:
            object.__setattr__(self, "label", class_id(self.label))
        given = [name for name in PLACES if getattr(self, name) is not None]
        if len(given) > 1 or (not given and self.label is None):
            raise FieldError(
                "", f"region {self.phrase!r} has {' and '.join(given) or 'no place'}; give one of {', '.join(PLACES)}"
            )
        if self.mask is not None:
            object.__setattr__(self, "mask", read_mask(self.mask, self.phrase))
        elif self.keypoints is not None:
            object.__setattr__(self, "keypoints", clean(self.keypoints, self.phrase))
            box = self.bounding_box()
            _check_box(box, "keypoints", f"what the image has of the box around the keypoints of {self.phrase!r}")
        elif self.box is not None:
            _check_box(self.box, "box", f"the box of {self.phrase!r}")

    @property
    def is_placed(self) -> bool:
        """False of a region that has but a label, until it is in a layout with a label map."""
        return any(getattr(self, name) is not None for name in PLACES)

    def bounding_box(self) -> Box:
        """(x0, y0, x1, y1) in fractions: the box, or that around the keypoints or the mask's pixels above 0.5."""
        if self.box is not None:
            return self.box
        if self.keypoints is not None:
            return box_around(self.keypoints)
        assert isinstance(self.mask, np.ndarray), "a region of but a label gets its place from a layout"
        (top, bottom), (left, right) = (extent(self.mask.max(axis=axis) >= 0.5) for axis in (1, 0))
        return left, top, right, bottom

    def mask_at(self, resolution: tuple[int, int], hard: bool = False) -> np.ndarray:
        """How much of each cell the region covers: (height, width) float32 in 0..1, exact; or, if hard, 0 or 1.

        A hard box has its edges rounded down to cells, as in the authors' code, so a small one may have no cell. A hard
        mask has the cells of which it covers half.
        """
        if hard:
            return self._hard_mask(resolution)
        height, width = resolution
        if isinstance(self.mask, np.ndarray):
            rows, columns = (pixel_edges(size) for size in self.mask.shape)
            cover = coverage(rows, height).T @ self.mask @ coverage(columns, width)
        else:
            x0, y0, x1, y1 = self.bounding_box()
            cover = coverage(np.array([y0, y1]), height).T @ coverage(np.array([x0, x1]), width)
        return np.asarray(cover.clip(0, 1), dtype=np.float32)

    def _hard_mask(self, resolution: tuple[int, int]) -> np.ndarray:
        if self.mask is not None:
            return (self.mask_at(resolution) >= 0.5).astype(np.float32)
        return whole_cells(self.bounding_box(), resolution)


@dataclass(frozen=True, eq=False)
class Layout(OtherTools):
    """The regions of one image, the prompt where a file gave it, and what ControlNets see of the image.

    Args:
        regions: the objects and their places; a region that has but a label gets the label map's pixels as its mask.
        prompt: what to draw.
        segmentation: a label map: a palette or grey image, the path of one, or an integer array (H,W), of class ids,
            255 for no class; kept as uint8.
        depth: a grey image of 8 or 16 bits, the path of one, or an array (H,W) of uint8, uint16 or float in 0..1; near
            is bright; kept as float32 in 0..1.
        background: class around the regions where there is no label map; an id, or a name of ADE20K, kept as the id.
        control: by kind (`runtime.layouts.finished`), pictures that are finished, and shown instead of drawn ones: each
            a picture, the path of one, or an array of uint8; kept as uint8 (H,W,3), of inpainting (H,W,4).

    Raises:
        RealCompoError: an image that cannot be read, or a label that is unknown or that the label map lacks.
    """

    regions: Sequence[Region]
    prompt: str | None = None
    segmentation: ImageSource | None = None
    depth: ImageSource | None = None
    background: int | str | None = None
    control: Mapping[str, ImageSource] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.segmentation is not None:
            object.__setattr__(self, "segmentation", read_labels(self.segmentation))
        if self.depth is not None:
            object.__setattr__(self, "depth", read_depth(self.depth))
        if self.background is not None:
            object.__setattr__(self, "background", class_id(self.background, "background"))
        finished = {kind: read_control(source, kind) for kind, source in self.control.items()}
        object.__setattr__(self, "control", finished)
        placed = (self._place(region, f"regions.{i}.label") for i, region in enumerate(self.regions))
        object.__setattr__(self, "regions", tuple(placed))

    @classmethod
    def from_file(cls, path: Path | str) -> "Layout":
        """Read a layout.json. Paths in it are relative to its folder and stay inside it.

        Raises:
            RealCompoError: the file is missing, damaged or another tool's, or a field is wrong; the message names it.
        """
        from runtime.layouts.wrong_boxes import check_boxes  # which needs Layout

        path = Path(path)
        file = _read(path)
        check_boxes([region.box for region in file.regions], path)
        regions = [_region_from_file(region, i, path) for i, region in enumerate(file.regions)]
        with _fields_of(path):
            segmentation = _named(path, file.segmentation, "segmentation")
            depth = _named(path, file.depth, "depth")
            control = {kind: beside(path, name, f"control.{kind}") for kind, name in file.control.items()}
            return cls(regions, file.prompt, segmentation, depth, file.background, control)

    def _place(self, region: Region, field: str) -> Region:
        if region.is_placed:
            return region
        if not isinstance(self.segmentation, np.ndarray):
            raise FieldError(
                field, f"region {region.phrase!r} has a label but no place; give one, or the layout's segmentation"
            )
        mask = self.segmentation == region.label
        if not mask.any():
            found = ", ".join(map(str, np.unique(self.segmentation)))
            raise FieldError(field, f"the segmentation has no pixel of class {region.label}; its classes are {found}")
        return replace(region, mask=mask)


def _read(path: Path) -> LayoutFile:
    """The file; of another tool's, the refusal says how it is converted."""
    from runtime.layouts.formats.telling import conversion_of  # which needs Layout
    from runtime.layouts.wrong_boxes import other_boxes

    try:
        return read_layout_file(path)
    except RealCompoError as error:
        if conversion := conversion_of(path):
            raise RealCompoError(conversion) from error
        if ".bbox: unknown field" in f"{error}":
            raise RealCompoError(f"{error}{other_boxes(path)}") from error
        raise


def _region_from_file(region: RegionFile, i: int, path: Path) -> Region:
    with _fields_of(path, f"regions.{i}"):
        mask = _named(path, region.mask, "mask")
        openpose = _named(path, region.openpose, "openpose")
        keypoints = region.keypoints if openpose is None else read_openpose(openpose, region.person, region.frame)
        return Region(region.phrase, region.box, mask, keypoints, region.tokens, region.label, region.layer)


@contextmanager
def _fields_of(path: Path, parent: str = "") -> Iterator[None]:
    """Say of a wrong field where it stands in a file."""
    try:
        yield
    except FieldError as error:
        place = ".".join(filter(None, (parent, error.field)))
        raise RealCompoError(f"{path}: {place}: {error}") from error


def _named(layout: Path, name: str | None, field: str) -> Path | None:
    return None if name is None else beside(layout, name, field)


def _check_box(box: Box, field: str, name: str) -> None:
    if len(box) != 4 or not all(math.isfinite(edge) for edge in box):
        raise FieldError(field, f"{name} is {box}; give four numbers: x0, y0, x1, y1")
    x0, y0, x1, y1 = box
    if min(box) < 0 or max(box) > 1:
        raise FieldError(field, f"{name} is {box}; coordinates are fractions of the image, 0 to 1")
    if x1 <= x0 or y1 <= y0:
        raise FieldError(field, f"{name} is {box}, which is empty; x1 must be above x0, and y1 above y0")
