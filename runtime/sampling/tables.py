"""Samplers as tables of linear coefficients, made once per run.

Every row says how the next latents follow from the latest samples and noise predictions, so a step is one weighted sum
whose derivative is known. The tables equal what diffusers' schedulers do, given the same config.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

SAMPLES_KEPT, NOISES_KEPT = 5, 5  # the longest rows of any table
KEPT = SAMPLES_KEPT + NOISES_KEPT + 1  # and the fresh noise of a row


class Step(NamedTuple):
    """x_(i+1) = sum_j samples[j] * x_(i-j) + sum_j noises[j] * eps_(i-j) + fresh * z_i; eps_i is predicted at
    (x_i, timestep), z_i is drawn from N(0, 1).

    `trial` are the weights of x_i and eps_i in a DDIM step to the table's next timestep: whatever the sampler, that is
    how the exact balancer looks ahead. A row that looks `again` goes on with the denoising step of the row before.
    """

    timestep: float
    samples: tuple[float, ...]
    noises: tuple[float, ...]
    fresh: float = 0.0
    trial: tuple[float, float] = (1.0, 0.0)
    again: bool = False


@dataclass(frozen=True)
class Table:
    """The rows of a run, and what latents drawn from N(0, 1) are multiplied by before the first."""

    rows: tuple[Step, ...]
    start: float = 1.0

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.rows)

    @property
    def denoising_steps(self) -> list[int]:
        """Which of the denoising steps each row belongs to, from 0."""
        return [count - 1 for count in accumulate(not row.again for row in self.rows)]


def denoising_step(alpha: float, following: float, timestep: float) -> Step:
    """Denoise from one cumulative alpha to the following: DDIM, and the first-order steps of all others."""
    scale = math.sqrt(following / alpha)
    return Step(timestep, (scale,), (math.sqrt(1 - following) - scale * math.sqrt(1 - alpha),))


def start_history(latents: Tensor) -> Tensor:
    """A history (KEPT,B,4,h,w) of samples, then noise predictions, both newest first, then fresh noise: as yet of one
    sample, the starting latents, and zeros.
    """
    history = latents.new_zeros((KEPT, *latents.shape))
    history[0] = latents
    return history


def history_weights(table: Table) -> Tensor:
    """The table's weights of a history, (rows,KEPT) float64."""
    return torch.tensor(
        [[*_padded(row.samples, SAMPLES_KEPT), *_padded(row.noises, NOISES_KEPT), row.fresh] for row in table],
        dtype=torch.float64,
    )


def advance(history: Tensor, noise: Tensor, weights: Tensor) -> None:
    """Add a noise prediction (B,4,h,w) to the history, then the sample that follows by a row's weights (1,KEPT).

    In place, for a CUDA graph finds the history where it was when the graph was captured.
    """
    samples, noises, _ = history.split([SAMPLES_KEPT, NOISES_KEPT, 1])
    _push(noises, noise)
    _push(samples, (weights @ history.flatten(1)).view_as(noise))


def _padded(weights: Sequence[float], count: int) -> list[float]:
    return [*weights, *[0.0] * (count - len(weights))]


def _push(kept: Tensor, newest: Tensor) -> None:
    kept.copy_(torch.cat([newest.unsqueeze(0), kept[:-1]]))
