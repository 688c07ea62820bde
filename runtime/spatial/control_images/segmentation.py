"""Segmentation: a label map in the colours of a palette."""

import numpy as np

from runtime.errors import FieldError
from runtime.layouts.layout import Layout
from runtime.layouts.palette import UNLABELLED, class_id
from runtime.spatial.control_images.kind import Canvas, ControlKind

COVERED = 0.5  # a pixel belongs to a region that covers at least this share of it


def label_map(layout: Layout, size: tuple[int, int]) -> np.ndarray:
    """The class id of every pixel, uint8 (H,W): the layout's segmentation, or else its regions over its background.

    A pixel takes the class of the nearest region, by layer and then the last, that covers half of it.

    Raises:
        RealCompoError: neither a label map nor anything with a label to draw one from.
    """
    if isinstance(layout.segmentation, np.ndarray):
        return _nearest(layout.segmentation, size)
    if layout.background is None and not layout.regions:
        raise FieldError("regions", "the layout has neither segmentation, nor background, nor regions with a label")
    labels = np.full(size, UNLABELLED if layout.background is None else layout.background, dtype=np.uint8)
    for i, region in sorted(enumerate(layout.regions), key=lambda numbered: numbered[1].layer):
        if region.label is None:
            raise FieldError(
                f"regions.{i}.label",
                f"region {region.phrase!r} has no label to draw a segmentation from; give regions.{i}.label, or the "
                "layout's segmentation",
            )
        labels[region.mask_at(size) >= COVERED] = class_id(region.label)
    return labels


def _nearest(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The class at the centre of every pixel of another resolution."""
    rows, columns = (
        ((np.arange(cells) + 0.5) * pixels / cells).astype(np.intp)
        for cells, pixels in zip(size, labels.shape, strict=True)
    )
    return labels[rows[:, None], columns]


def _draw(layout: Layout, canvas: Canvas) -> np.ndarray:
    return canvas.palette.paint(label_map(layout, canvas.size)) / np.float32(255)


SEGMENTATION = ControlKind("segmentation", "the layout's label map, or its regions' labels", _draw)
