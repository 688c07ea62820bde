"""Control images of Tabletop scenes: the runtime's, made in batches."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.tabletop.scenes import Scene, depth_map, label_map
from runtime.layouts.palette import ade20k

Kind = Literal["segmentation", "depth"]


def control_map(scene: Scene, kind: Kind) -> NDArray[np.uint8]:
    """(128, 128), as a PNG holds it: class ids, or nearness in 255ths."""
    return label_map(scene) if kind == "segmentation" else (255 * depth_map(scene)).round().astype(np.uint8)


def control_images(maps: torch.Tensor, kind: Kind) -> torch.Tensor:
    """Control maps (N, 128, 128) uint8 -> RGB (N, 3, 128, 128) in 0..1: ids in ADE20K's colours, depth in grey."""
    pixels = ade20k().paint(maps.numpy()) if kind == "segmentation" else np.stack([maps.numpy()] * 3, axis=-1)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
