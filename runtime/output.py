"""What a generation returns."""

from dataclasses import dataclass

import torch
from PIL import Image

from runtime.stats import Stats


@dataclass(frozen=True)
class TraceStep:
    """One evaluation, seen by the balancer. `coefficients` are those that the step used, after their update."""

    timestep: float  # among the training ones; some samplers stop between two
    loss: torch.Tensor  # (B,), of the maps that the models of this step gave, before the update
    region_maps: torch.Tensor  # (B,R,P) attention of each region's tokens, R being the most regions of an image
    coefficients: torch.Tensor  # (B,2,h,w)
    spatial_weight: torch.Tensor  # (B,h,w) in 0..1: how much of the spatial model went into each pixel
    gradient: torch.Tensor | None  # (B,2,h,w) that the coefficients moved down; None where they stayed


@dataclass(frozen=True)
class Output:
    """B images, in the order of the prompts, `num_images` each."""

    images: list[Image.Image]
    latents: torch.Tensor  # (B,4,h,w) float32
    trace: list[TraceStep]  # empty unless asked for
    stats: Stats


def to_images(decoded: torch.Tensor) -> list[Image.Image]:
    """(B,3,H,W) in -1..1 to 8-bit images, clamped and rounded as diffusers does."""
    pixels = ((decoded / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return [Image.fromarray(image) for image in pixels.permute(0, 2, 3, 1).cpu().numpy()]
