"""Control images: what a ControlNet is shown of a layout."""

from typing import Literal

import torch

from runtime.layout import Layout

ControlKind = Literal["openpose", "segmentation", "depth"]


def control_image(layout: Layout, kind: ControlKind, size: tuple[int, int]) -> torch.Tensor:
    """What a ControlNet of this kind takes: (3,H,W) float32 RGB in 0..1. `size` is (H, W).

    Every kind draws the regions alike, each in one of the primary colours, on black.
    """
    image = torch.zeros(3, *size)
    for i, region in enumerate(layout.regions):
        image[i % 3] = torch.maximum(image[i % 3], torch.from_numpy(region.mask_at(size)))
    return image
