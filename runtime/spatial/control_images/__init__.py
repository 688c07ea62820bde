"""Control images, what ControlNets are shown of a layout: one file and one row of `CONTROL_KINDS` a kind."""

import torch
from PIL import Image

from runtime.layouts.layout import Layout
from runtime.layouts.palette import Palette, ade20k
from runtime.spatial.control_images.depth import DEPTH
from runtime.spatial.control_images.kind import Canvas, ControlKind
from runtime.spatial.control_images.openpose import OPENPOSE
from runtime.spatial.control_images.scribble import SCRIBBLE
from runtime.spatial.control_images.segmentation import SEGMENTATION

CONTROL_KINDS: dict[str, ControlKind] = {kind.name: kind for kind in (OPENPOSE, SEGMENTATION, DEPTH, SCRIBBLE)}


def control_image(layout: Layout, kind: str, size: tuple[int, int], palette: Palette | None = None) -> torch.Tensor:
    """What a ControlNet of this kind takes: (3,H,W) float32 RGB in 0..1. `size` is (H, W).

    Args:
        palette: of a segmentation's classes; ADE20K's if none is given.

    Raises:
        RealCompoError: the layout lacks what this kind is drawn from, or has a class that the palette lacks.
    """
    image = CONTROL_KINDS[kind].draw(layout, Canvas(size, palette or ade20k()))
    return torch.from_numpy(image).permute(2, 0, 1).contiguous()


def control_picture(layout: Layout, kind: str, size: tuple[int, int]) -> Image.Image:
    """`control_image`, for people to look at."""
    pixels = control_image(layout, kind, size).mul(255).round().byte()
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())
