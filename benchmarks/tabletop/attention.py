"""Where attention should look: losses that teach it, and how far it does (`lift`)."""

import math
from collections.abc import Sequence

import torch

from runtime.words import MAX_REGIONS


def inside_boxes(boxes: torch.Tensor, side: int) -> torch.Tensor:
    """Boxes (B, N, 4) -> (B, N, P) bool: which of side x side cells have their centres in them."""
    centres = (torch.arange(side) + 0.5) / side
    x0, y0, x1, y1 = boxes[..., None].unbind(2)  # each (B, N, 1)
    across, down = (centres > x0) & (centres < x1), (centres > y0) & (centres < y1)  # (B, N, side)
    return (down[..., :, None] & across[..., None, :]).flatten(2)


def token_shares(attention: torch.Tensor, boxes: torch.Tensor, owners: torch.Tensor) -> torch.Tensor:
    """(B, L): the share of each token's attention that lies in any of its objects' boxes.

    Attention is (B, P, L), boxes are (B, N, 4), and owners (B, L, N) bool say of which objects a token speaks.
    """
    inside = inside_boxes(boxes, math.isqrt(attention.shape[1]))
    union = (owners[..., None] & inside[:, None]).any(2)  # (B, L, P)
    attention = attention.transpose(1, 2)
    return (attention * union).sum(-1) / attention.sum(-1)


def token_loss(
    maps: Sequence[torch.Tensor], boxes: torch.Tensor, owners: torch.Tensor, counted: torch.Tensor
) -> torch.Tensor:
    """TokenCompose's (arXiv 2312.03626): (1 - share)^2, mean over layers and over tokens that speak of objects.

    `maps` holds each layer's attention (B, P, L); `counted` (B,) bool leaves rows out.
    """
    speaking = owners.any(-1) & counted[:, None]  # (B, L)
    missed = torch.stack([(1 - token_shares(attention, boxes, owners)) ** 2 for attention in maps]).mean(0)
    return (missed * speaking).sum() / speaking.sum().clamp(min=1)


def misplaced(attention: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of GLIGEN's attention (B, P + 30, P + 30): to its object inside a box, to none outside."""
    pixels = attention.shape[1] - MAX_REGIONS
    inside = inside_boxes(boxes, math.isqrt(pixels))  # (B, 3, P); boxes do not overlap
    seen = attention[:, :pixels, pixels : pixels + 3].transpose(1, 2)  # (B, 3, P)
    grounded = torch.where(inside, (seen + 1e-4).log(), 0).sum(1)
    elsewhere = torch.where(inside.any(1), 0, (1 - seen.sum(1) + 1e-4).log())
    return -(grounded + elsewhere).mean()


def lift(attention: torch.Tensor, boxes: torch.Tensor, owners: torch.Tensor) -> torch.Tensor:
    """(B, N): the share of an object's attention inside its box, over the box's share of the picture; 1 is chance.

    Attention is (B, P, L), an object's is the mean of its tokens'. NaN where there is no object.
    """
    inside = inside_boxes(boxes, math.isqrt(attention.shape[1])).float()  # (B, N, P)
    of_objects = torch.einsum("bpl,bln->bnp", attention, owners.float())
    share = (of_objects * inside).sum(-1) / of_objects.sum(-1)
    return share / inside.mean(-1)
