"""Openpose: the regions' keypoints as people in OpenPose's colours, on black."""

from collections.abc import Sequence

import numpy as np

from runtime.errors import FieldError
from runtime.layouts.geometry import Keypoint
from runtime.layouts.keypoints import BODIES
from runtime.layouts.layout import Layout
from runtime.layouts.openpose import draw_people
from runtime.spatial.control_images.kind import Canvas, ControlKind


def _draw(layout: Layout, canvas: Canvas) -> np.ndarray:
    return draw_people(_people(layout), canvas.size, canvas.pen) / np.float32(255)


def _people(layout: Layout) -> list[Sequence[Keypoint]]:
    people = [region.keypoints for region in layout.regions if region.keypoints is not None]
    if not people:
        raise FieldError("regions", "no region of the layout has keypoints to draw openpose's control image from")
    for i, region in enumerate(layout.regions):
        if region.keypoints is not None and len(region.keypoints) not in BODIES:
            raise FieldError(
                f"regions.{i}.keypoints",
                f"regions.{i}.keypoints has {len(region.keypoints)} points; openpose's control image is drawn from 18 "
                "(COCO) or 25 (BODY_25), or COCO's own 17, with null for those not seen",
            )
    return people


OPENPOSE = ControlKind("openpose", "the regions' keypoints", _draw)
