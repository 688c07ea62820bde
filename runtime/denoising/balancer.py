"""RealCompo's balancer (arXiv 2402.12908): fuse two noise predictions per pixel, and move the fusing coefficients.

Pure functions of tensors. In a pair, text-to-image comes first and spatial second.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

SURROGATE_UNIT = 1e-6  # about the exact gradient's size at a pixel of the paper's latents
PAPER_PIXELS = 64 * 64  # of the latents that the paper's scale of 1e6 was made for: 512x512 pixels of Stable Diffusion


class Regions(NamedTuple):
    """What the balancer knows of the layouts. R is the most regions of an image in the batch; absent ones weigh 0."""

    masks: Tensor  # (B,R,P) float32 in 0..1, at map resolution, row-major
    tokens: Tensor  # (B,R,L) float32, 1 at the region's tokens
    weights: Tensor  # (B,R) float32, 1 for a region and 0 for padding


class Attention(NamedTuple):
    """The attention loss and what it was read from."""

    loss: Tensor  # (B,)
    region_maps: Tensor  # (B,R,P)


def fusing_weights(coefficients: Tensor) -> Tensor:
    """Weights of both models per pixel (B,2,h,w), each in 0..1 and together 1."""
    return coefficients.softmax(dim=1)


def fuse(noise_text: Tensor, noise_spatial: Tensor, coefficients: Tensor) -> Tensor:
    """Fuse two noise predictions (B,4,h,w) by the coefficients' (B,2,h,w) weights."""
    weights = fusing_weights(coefficients)
    return weights[:, :1] * noise_text + weights[:, 1:] * noise_spatial


def attention_loss(maps: Tensor, region_masks: Tensor, region_tokens: Tensor, region_weights: Tensor) -> Attention:
    """Sum over regions of the share of their tokens' attention that falls outside their masks (step 4 of the design).

    Args:
        maps: (B,P,L) cross-attention, softmax over tokens.
        region_masks: (B,R,P) in 0..1.
        region_tokens: (B,R,L), 1 at the region's tokens; a region's map is the average over them.
        region_weights: (B,R); a region of weight 0 adds nothing, whatever its mask and tokens are.
    """
    shares = region_tokens / region_tokens.sum(-1, keepdim=True).clamp(min=1)
    region_maps = shares @ maps.transpose(1, 2)
    inside = (region_masks * region_maps).sum(-1)
    total = region_maps.sum(-1).clamp(min=1e-12)  # 0 where padding has no tokens
    return Attention((region_weights * (1 - inside / total)).sum(-1), region_maps)


def mixed_attention(
    coefficients: Tensor, maps_text: Tensor, maps_spatial: Tensor, regions: Regions, resolution: tuple[int, int]
) -> Attention:
    """The attention loss of both models' maps (B,P,L), mixed by their weights at map resolution (height, width)."""
    weights = adaptive_avg_pool2d(fusing_weights(coefficients), resolution).flatten(2).unsqueeze(-1)
    return attention_loss(weights[:, 0] * maps_text + weights[:, 1] * maps_spatial, *regions)


def surrogate_gradient(
    coefficients: Tensor, maps_text: Tensor, maps_spatial: Tensor, regions: Regions, resolution: tuple[int, int]
) -> Tensor:
    """The gradient (B,2,h,w) of the mixed maps' loss with respect to the coefficients.

    The exact gradient passes through a UNet and a small sampling step and comes out near 1e-6 a pixel of the paper's
    latents, which the paper's scale of 1e6 undoes. This one does not, and would saturate the softmax at once. It is
    returned in the unit that makes it 1e-6 a pixel of those latents where the loss's gradient per unit of area is 1:
    at a scale of 1e6 a step moves coefficients by some tenths, at any resolution (`step_size`). Unlike a division by
    its own norm, this lets the gradient fade where the models agree or the loss is met, rather than blow up what is
    left.
    """
    with torch.enable_grad():
        leaf = coefficients.detach().requires_grad_()
        loss = mixed_attention(leaf, maps_text, maps_spatial, regions, resolution).loss
        (gradient,) = torch.autograd.grad(loss.sum(), leaf)
    return gradient * (PAPER_PIXELS * SURROGATE_UNIT)


def exact_gradient(coefficients: Tensor, noise_text: Tensor, noise_spatial: Tensor, cotangent: Tensor) -> Tensor:
    """The gradient (B,2,h,w) of a loss with respect to the coefficients, through the fused noise prediction.

    Args:
        coefficients: (B,2,h,w).
        noise_text: (B,4,h,w), and `noise_spatial` likewise: what the trial step fused.
        cotangent: (B,4,h,w), the loss's gradient with respect to the fused noise prediction.
    """
    with torch.enable_grad():
        leaf = coefficients.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(fuse(noise_text, noise_spatial, leaf), leaf, cotangent)
    return gradient


def drop_non_finite(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient (B,2,h,w) with 0 for images where any of it is not finite, and how many images those are."""
    broken = ~gradient.isfinite().flatten(1).all(1)
    return gradient.masked_fill(broken[:, None, None, None], 0), broken.sum()


def step_size(i: int, steps: int, scale: float, pixels: int) -> float:
    """How far a gradient moves the coefficients at step i: rho_i = scale * sqrt(linspace(1.0, 0.5, steps)[i]).

    The loss is made of shares, whatever the resolution, so a coefficient's gradient is as small as its pixel's share of
    the image. Times the latents' `pixels` it is that of a unit of area, and a scale means the same at every size. It is
    divided by the paper's pixels, so that the paper's scale stays what it is there.
    """
    return scale * math.sqrt(1 - 0.5 * i / max(steps - 1, 1)) * pixels / PAPER_PIXELS
