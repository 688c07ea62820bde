"""The numbers that change from evaluation to evaluation, as tensors on the device.

A CUDA graph replays work on fixed addresses, so that nothing in an evaluation may be a Python number of its own.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from runtime.denoising.balancer import step_size
from runtime.options import Options
from runtime.sampling.tables import Table, history_weights


class Numbers(NamedTuple):
    """Those of one evaluation, each with a leading dimension of 1, or of a whole run. All float32."""

    timestep: Tensor  # (1,)
    weights: Tensor  # (1,KEPT) of the history, see `sampling.tables.advance`
    trial: Tensor  # (1,2) of the latents and the noise in the trial step
    step_size: Tensor  # (1,) of the coefficients
    spatial_scales: Tensor  # (1,n), see `spatial.kind.Call`
    guidance_scale: Tensor  # (1,)

    def at(self, i: int) -> "Numbers":
        """Of a whole run's, those of evaluation i."""
        return Numbers(*(part[i : i + 1] for part in self))

    def become(self, others: "Numbers") -> None:
        """Take over another evaluation's, in place."""
        for own, other in zip(self, others, strict=True):
            own.copy_(other)


def numbers_at(timestep: float, spatial_scales: tuple[float, ...], device: torch.device) -> Numbers:
    """Those of an evaluation that only looks, and takes no step."""
    none = torch.zeros(1, device=device)
    return Numbers(
        timestep=none + timestep,
        weights=none,
        trial=none,
        step_size=none,
        spatial_scales=torch.tensor([spatial_scales], dtype=torch.float32, device=device),
        guidance_scale=none + 1,
    )


def make_numbers(
    table: Table, options: Options, spatial_scales: Sequence[tuple[float, ...]], pixels: int, device: torch.device
) -> Numbers:
    """Those of a whole run on latents of so many pixels."""
    counts = options.counts(table)

    def floats(values: Sequence[float] | Sequence[tuple[float, ...]] | Tensor) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32).to(device)

    return Numbers(
        timestep=floats([step.timestep for step in table]),
        weights=floats(history_weights(table)),
        trial=floats([step.trial for step in table]),
        step_size=floats([step_size(i, counts[-1] + 1, options.coefficient_scale, pixels) for i in counts]),
        spatial_scales=floats(spatial_scales),
        guidance_scale=floats([options.guidance_scale] * len(table)),
    )
