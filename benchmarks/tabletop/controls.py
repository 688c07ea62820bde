"""Control images of Tabletop scenes, as diffusers' ControlNets take them."""

from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.tabletop.scenes import Scene, depth_map, label_map

Kind = Literal["segmentation", "depth"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# by class id: the first five of the ADE20K palette that segmentation ControlNets are commonly trained with
PALETTE = ((120, 120, 120), (180, 120, 120), (6, 230, 230), (80, 50, 50), (4, 200, 3))


def control_map(scene: Scene, kind: Kind) -> NDArray[np.uint8]:
    """(64, 64), as a PNG holds it: class ids, or nearness in 255ths."""
    return label_map(scene) if kind == "segmentation" else (255 * depth_map(scene)).round().astype(np.uint8)


def control_images(maps: torch.Tensor, kind: Kind) -> torch.Tensor:
    """Control maps (N, 64, 64) uint8 -> RGB (N, 3, 64, 64) float32 in 0..1: class ids by palette, depth in grey."""
    if kind == "segmentation":
        pixels = torch.tensor(PALETTE, dtype=torch.uint8)[maps.long()]
    else:
        pixels = maps[..., None].expand(-1, -1, -1, 3)
    return pixels.permute(0, 3, 1, 2).float() / 255
