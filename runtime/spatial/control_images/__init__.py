"""Control images, what ControlNets are shown of a layout: one file and one row of `CONTROL_KINDS` a kind."""

import torch
from PIL import Image

from runtime.layouts.layout import Layout
from runtime.layouts.openpose import THIN
from runtime.layouts.palette import Palette, ade20k
from runtime.spatial.control_images.depth import DEPTH
from runtime.spatial.control_images.finished import FINISHED_ALONE, finished
from runtime.spatial.control_images.kind import Canvas, ControlKind
from runtime.spatial.control_images.openpose import OPENPOSE
from runtime.spatial.control_images.scribble import SCRIBBLE
from runtime.spatial.control_images.segmentation import SEGMENTATION

CONTROL_KINDS: dict[str, ControlKind] = {
    kind.name: kind for kind in (OPENPOSE, SEGMENTATION, DEPTH, SCRIBBLE, *FINISHED_ALONE)
}


def control_image(
    layout: Layout, kind: str, size: tuple[int, int], palette: Palette | None = None, pen: str = THIN
) -> torch.Tensor:
    """What a ControlNet of this kind takes: (3,H,W) float32 RGB in 0..1, of inpainting -1 where it is to be filled.

    It is the layout's finished picture of the kind, or else drawn from the layout. `size` is (H, W).

    Args:
        palette: of a segmentation's classes; ADE20K's if none is given.
        pen: how thick people are drawn, of `runtime.layouts.openpose.PENS`.

    Raises:
        RealCompoError: the layout lacks what this kind is drawn from, or has a class that the palette lacks.
    """
    image = finished(layout, kind, size)
    if image is None:
        image = CONTROL_KINDS[kind].draw(layout, Canvas(size, palette or ade20k(), pen))
    return torch.from_numpy(image).permute(2, 0, 1).contiguous()


def control_picture(layout: Layout, kind: str, size: tuple[int, int]) -> Image.Image:
    """`control_image`, for people to look at."""
    pixels = control_image(layout, kind, size).clamp(min=0).mul(255).round().byte()
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())
