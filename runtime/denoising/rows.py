"""What changes from row to row of a run: numbers, as tensors on the device.

A CUDA graph replays work on fixed addresses, so that nothing in an evaluation may be a Python number of its row.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from runtime.denoising.balancer import step_size
from runtime.options import Options
from runtime.sampling.tables import Step, history_weights


class Row(NamedTuple):
    """The numbers of one row, each with a leading dimension of 1, or of all rows, with a leading dimension of those."""

    timestep: Tensor  # (1,) int64; the others float32
    weights: Tensor  # (1,kept) of the history, see `sampling.advance`
    trial: Tensor  # (1,2) of the latents and the noise in the trial step
    step_size: Tensor  # (1,) of the coefficients
    spatial_scales: Tensor  # (1,n), see `spatial.Call`
    guidance_scale: Tensor  # (1,)

    def at(self, i: int) -> "Row":
        """Row i of all rows."""
        return Row(*(part[i : i + 1] for part in self))

    def become(self, row: "Row") -> None:
        """Take over the numbers of another row, in place."""
        for own, other in zip(self, row, strict=True):
            own.copy_(other)


def make_rows(
    table: Sequence[Step], options: Options, spatial_scales: Sequence[tuple[float, ...]], device: torch.device
) -> Row:
    """All rows of a run."""
    count = len(table)

    def floats(values: Sequence[float] | Sequence[tuple[float, ...]] | Tensor) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32).to(device)

    return Row(
        timestep=torch.tensor([step.timestep for step in table]).to(device),
        weights=floats(history_weights(table)),
        trial=floats([step.trial for step in table]),
        step_size=floats([step_size(i, count, options.coefficient_scale) for i in range(count)]),
        spatial_scales=floats(spatial_scales),
        guidance_scale=floats([options.guidance_scale] * count),
    )
