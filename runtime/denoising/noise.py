"""Noise for a batch, drawn so that an image's does not depend on which others are drawn beside it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from runtime.errors import RealCompoError

MOST = 2**63 - 1  # of a seed


@dataclass(frozen=True)
class Noise:
    """Draws from N(0, 1) for B images: each generator for some of them, at once, as diffusers does for a batch."""

    generators: Sequence[Generator]
    counts: Sequence[int]  # images of each generator, side by side; B together

    def draw(self, *shape: int) -> Tensor:
        """(B, *shape) float32 on the CPU."""
        pairs = zip(self.counts, self.generators, strict=True)
        return torch.cat([torch.randn((count, *shape), generator=generator) for count, generator in pairs])


def seeded(name: str, seed: int) -> Generator:
    """Raises: RealCompoError: a seed out of range."""
    if not 0 <= seed <= MOST:
        raise RealCompoError(f"{name}={seed} is out of range; use 0 to {MOST}")
    return Generator().manual_seed(seed)
