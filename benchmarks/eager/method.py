"""The paper's formulas, and the DDIM step by which it looks ahead."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.eager.conditions import Regions


def fuse(outputs: Sequence[Tensor], coefficients: Tensor) -> Tensor:
    """Both models' outputs (B,4,h,w), weighed by the softmax of coefficients (B,2,h,w)."""
    weights = coefficients.softmax(1).unsqueeze(2)  # (B,2,1,h,w)
    return (weights * torch.stack(list(outputs), dim=1)).sum(1)


def seeded_coefficients(seed: int, size: tuple[int, int]) -> Tensor:
    """Coefficients (1,2,h,w) as the authors' code draws them: the spatial model's first, after a seed of their own."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        spatial, text = torch.randn(1, 1, *size), torch.randn(1, 1, *size)
    return torch.cat([text, spatial], dim=1)


def attention_loss(maps: Tensor, regions: Regions) -> Tensor:
    """The share of each region's attention outside its mask, summed over regions: maps (B,P,L) -> (B,)."""
    attention = torch.einsum("bpl,brl->brp", maps, regions.tokens)  # tokens' sum: a share is the same of their mean
    total = attention.sum(2)
    inside = (regions.masks * attention).sum(2) / torch.where(total > 0, total, 1)  # absent regions have no attention
    return (regions.weights * (1 - inside)).sum(1)


def ddim_step(scheduler: Any, output: Tensor, timestep: int, latents: Tensor) -> Tensor:
    """DDIM (arXiv 2010.02502) with eta 0, to the timestep that the scheduler's steps lead to: (B,4,h,w)."""
    following = timestep - scheduler.config.num_train_timesteps // scheduler.num_inference_steps
    alpha = float(scheduler.alphas_cumprod[timestep])
    alpha_following = float(scheduler.alphas_cumprod[following] if following >= 0 else scheduler.final_alpha_cumprod)
    if scheduler.config.prediction_type == "v_prediction":  # arXiv 2202.00512
        noise = math.sqrt(alpha) * output + math.sqrt(1 - alpha) * latents
    else:
        noise = output
    clean = (latents - math.sqrt(1 - alpha) * noise) / math.sqrt(alpha)
    return math.sqrt(alpha_following) * clean + math.sqrt(1 - alpha_following) * noise
