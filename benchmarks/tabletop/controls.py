"""Control images of Tabletop scenes: the runtime's, made in batches."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.tabletop.data import scene_of
from benchmarks.tabletop.scenes import Scene, depth_map, edge_map, label_map
from runtime.layouts.palette import ade20k

Kind = Literal["segmentation", "depth", "canny"]
Pixels = NDArray[np.uint8]

MAPS: dict[Kind, Callable[[Scene], NDArray[Any]]] = {
    "segmentation": label_map,
    "depth": lambda scene: (255 * depth_map(scene)).round().astype(np.uint8),
    "canny": lambda scene: 255 * edge_map(scene).astype(np.uint8),
}


def control_map(scene: Scene, kind: Kind) -> Pixels:
    """(128, 128), as a PNG holds it: class ids, nearness in 255ths, or edges of 255."""
    return MAPS[kind](scene)


def control_images(maps: torch.Tensor, kind: Kind) -> torch.Tensor:
    """Control maps (N, 128, 128) uint8 -> RGB (N, 3, 128, 128) in 0..1: ids in ADE20K's colours, the others in grey."""
    pixels = ade20k().paint(maps.numpy()) if kind == "segmentation" else np.stack([maps.numpy()] * 3, axis=-1)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def render_maps(kind: Kind, count: int) -> torch.Tensor:
    """(count, 128, 128) uint8, of the training scenes."""
    with ProcessPoolExecutor() as pool:
        return torch.from_numpy(np.stack(list(pool.map(_render_map, range(count), [kind] * count, chunksize=500))))


def _render_map(index: int, kind: Kind) -> Pixels:
    return control_map(scene_of(index), kind)
