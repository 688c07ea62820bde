"""Control images: what a ControlNet is shown of a layout."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from PIL import Image

from runtime.errors import FieldError
from runtime.layouts.geometry import Keypoint
from runtime.layouts.images import UNLABELLED
from runtime.layouts.layout import Layout
from runtime.layouts.openpose import draw_people
from runtime.layouts.palette import Palette, ade20k, class_id

ControlKind = Literal["openpose", "segmentation", "depth"]
CONTROL_KINDS: tuple[ControlKind, ...] = get_args(ControlKind)

COVERED = 0.5  # a pixel belongs to a region that covers at least this share of it


def control_image(
    layout: Layout, kind: ControlKind, size: tuple[int, int], palette: Palette | None = None
) -> torch.Tensor:
    """What a ControlNet of this kind takes: (3,H,W) float32 RGB in 0..1. `size` is (H, W).

    openpose draws the regions' keypoints, in OpenPose's colours on black; segmentation the label map, in the colours of
    `palette` (ADE20K's if none is given); depth the layout's depth in grey.

    Raises:
        RealCompoError: the layout lacks what this kind is drawn from, or has a class that the palette lacks.
    """
    if kind == "openpose":
        image = draw_people(_people(layout), size) / np.float32(255)
    elif kind == "segmentation":
        image = (palette or ade20k()).paint(label_map(layout, size)) / np.float32(255)
    else:
        image = np.repeat(_depth_at(layout, size)[:, :, None], 3, axis=2)
    return torch.from_numpy(image).permute(2, 0, 1).contiguous()


def control_picture(layout: Layout, kind: ControlKind, size: tuple[int, int]) -> Image.Image:
    """`control_image`, for people to look at."""
    pixels = control_image(layout, kind, size).mul(255).round().byte()
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def label_map(layout: Layout, size: tuple[int, int]) -> np.ndarray:
    """The class id of every pixel, uint8 (H,W): the layout's segmentation, or else its regions over its background.

    A pixel takes the class of the last region that covers half of it.

    Raises:
        RealCompoError: neither a label map nor anything with a label to draw one from.
    """
    if isinstance(layout.segmentation, np.ndarray):
        return _nearest(layout.segmentation, size)
    if layout.background is None and not layout.regions:
        raise FieldError("regions", "the layout has neither segmentation, nor background, nor regions with a label")
    labels = np.full(size, UNLABELLED if layout.background is None else layout.background, dtype=np.uint8)
    for i, region in enumerate(layout.regions):
        if region.label is None:
            raise FieldError(
                f"regions.{i}.label",
                f"region {region.phrase!r} has no label to draw a segmentation from; give regions.{i}.label, or the "
                "layout's segmentation",
            )
        labels[region.mask_at(size) >= COVERED] = class_id(region.label)
    return labels


def _people(layout: Layout) -> list[Sequence[Keypoint]]:
    people = [region.keypoints for region in layout.regions if region.keypoints is not None]
    if not people:
        raise FieldError("regions", "no region of the layout has keypoints to draw openpose's control image from")
    for i, region in enumerate(layout.regions):
        if region.keypoints is not None and len(region.keypoints) not in (18, 25):
            raise FieldError(
                f"regions.{i}.keypoints",
                f"regions.{i}.keypoints has {len(region.keypoints)} points; openpose's control image is drawn from 18 "
                "(COCO) or 25 (BODY_25), with null for those not seen",
            )
    return people


def _depth_at(layout: Layout, size: tuple[int, int]) -> np.ndarray:
    if not isinstance(layout.depth, np.ndarray):
        raise FieldError("depth", "the layout has no depth to make a control image of; give it one")
    height, width = size
    resized = Image.fromarray(layout.depth).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized).clip(0, 1)


def _nearest(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The class at the centre of every pixel of another resolution."""
    rows, columns = (
        ((np.arange(cells) + 0.5) * pixels / cells).astype(np.intp)
        for cells, pixels in zip(size, labels.shape, strict=True)
    )
    return labels[rows[:, None], columns]
