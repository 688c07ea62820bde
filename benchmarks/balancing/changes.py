"""What the trials make of the exact gradient: the same step, taken otherwise."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from benchmarks.study.placebo import Changes
from runtime.denoising.balancer import PAPER_PIXELS, SURROGATE_UNIT, Attention, Regions
from runtime.denoising.evaluation import Change

NEARBY = 5  # pixels of the latents that are smoothed over, each way across
KEPT = 0.9  # of the gradients before, as momentum
ATTENDED = 0.5  # of a region's highest attention: what it looks at
MET = 0.05  # a region's loss, below which it is left alone


def by_region(gradient: Tensor, _: Attention, regions: Regions) -> Tensor:
    """One coefficient a region and one for the ground: the mean over its pixels; where regions overlap, their mean."""
    masks = region_masks(regions, gradient)
    parts = torch.cat([masks, 1 - masks.amax(1, keepdim=True)], dim=1)  # (B,R+1,h,w)
    areas = parts.sum((2, 3)).clamp(min=1e-6)
    means = torch.einsum("bchw,brhw->bcr", gradient, parts) / areas[:, None]
    return torch.einsum("bcr,brhw->bchw", means, parts) / parts.sum(1, keepdim=True).clamp(min=1e-6)


def smooth(gradient: Tensor, _: Attention, __: Regions) -> Tensor:
    """The mean over nearby pixels."""
    return avg_pool2d(gradient, NEARBY, stride=1, padding=NEARBY // 2, count_include_pad=False)


def normalised(gradient: Tensor, _: Attention, __: Regions) -> Tensor:
    """Of a root mean square that moves coefficients by 1 at a scale of 1e6, however small the gradient is."""
    pixels = gradient.shape[2] * gradient.shape[3]
    size = gradient.square().mean((1, 2, 3), keepdim=True).sqrt().clamp(min=1e-20)
    return gradient / size * (SURROGATE_UNIT * PAPER_PIXELS / pixels)


def unmet(gradient: Tensor, attention: Attention, regions: Regions) -> Tensor:
    """Only at regions whose attention leaves them, and at what they look at instead."""
    maps, inside = attention.region_maps, regions.masks
    loss = 1 - (maps * inside).sum(-1) / maps.sum(-1).clamp(min=1e-12)
    seen = (maps > ATTENDED * maps.amax(-1, keepdim=True)).float()
    wanted = torch.maximum(seen, inside) * (regions.weights * (loss > MET))[..., None]
    return gradient * _as_pixels(wanted.amax(1, keepdim=True), gradient)


def momentum() -> Change:
    """Gradients add up, older ones less."""
    before: list[Tensor] = []

    def change(gradient: Tensor, _: Attention, __: Regions) -> Tensor:
        before[:] = [gradient + KEPT * before[0] if before else gradient]
        return before[0]

    return change


def in_turn(*changes: Change) -> Change:
    """One after the other."""

    def change(gradient: Tensor, attention: Attention, regions: Regions) -> Tensor:
        for one in changes:
            gradient = one(gradient, attention, regions)
        return gradient

    return change


def region_masks(regions: Regions, gradient: Tensor) -> Tensor:
    """(B,R,h,w) in 0..1, none of padding, at the gradient's (B,2,h,w) resolution."""
    return _as_pixels(regions.masks * regions.weights[..., None], gradient)


def _as_pixels(maps: Tensor, gradient: Tensor) -> Tensor:
    """Maps (B,R,P) of the same aspect at the gradient's (B,2,h,w) resolution."""
    height, width = gradient.shape[2:]
    rows = round(math.sqrt(maps.shape[-1] * height / width))
    return interpolate(maps.unflatten(-1, (rows, -1)), (height, width))


def _same(change: Change) -> Callable[[], Change]:
    """For changes that remember nothing."""
    return partial(in_turn, change)


CHANGES: Changes = {
    "by region": _same(by_region),
    "smooth": _same(smooth),
    "normalised": _same(normalised),
    "by region, normalised": partial(in_turn, by_region, normalised),
    "momentum": momentum,
    "unmet": _same(unmet),
}
