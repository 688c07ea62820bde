"""What the kinds of spatial model have in common. They are GLIGEN (`runtime.spatial.gligen`) and ControlNets
(`runtime.spatial.controlnets`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from runtime.bundle.manifest import Role
from runtime.layouts.layout import Layout
from runtime.options import Model
from runtime.output import Stats

Tensors = dict[str, Tensor]
PerControl = float | Sequence[float]  # one for all ControlNets, or one each


@dataclass(frozen=True)
class Strengths:
    """How closely the spatial model follows the layout over a run, as the caller says it; see `RealCompo.__call__`."""

    grounding_fraction: float = 1.0
    control_scale: PerControl = 1.0
    control_start: PerControl = 0.0
    control_end: PerControl = 1.0


class RunEngine(Protocol):
    """Calls an engine by its role."""

    def __call__(self, role: Role, **tensors: Tensor) -> Tensors: ...


@dataclass(frozen=True)
class Call:
    """A call of the spatial model's engine, as far as it is put together."""

    role: Role  # spatial, or spatial_gradient
    rows: Tensors  # what each model's rows are told alike: latents, timestep, texts
    models: Sequence[Model]  # whose rows are in the call, one model's after the other's
    scales: Tensor  # (1,n): how closely the spatial model's rows follow the layout; the text-to-image ones do not

    @property
    def count(self) -> int:
        """Rows of one model."""
        return len(self.rows["latents"])

    def row_scales(self) -> Tensor:
        """(models * count,n)."""
        shut = torch.zeros_like(self.scales)
        scales = [self.scales if model == "spatial" else shut for model in self.models]
        return torch.cat([scale.expand(self.count, -1) for scale in scales])


class Condition(Protocol):
    """The layouts of one run, as the spatial model's engines take them."""

    def tensors(self) -> list[Tensor]:
        """Those that stay as they are over a run."""

    def inputs(self, call: Call, run: RunEngine) -> Tensors:
        """What the engine takes besides `call.rows`, for all rows of the call."""


class SpatialModel(Protocol):
    """A kind of spatial model, in a bundle."""

    @staticmethod
    def switch_step(steps: int) -> int:
        """How many evaluations are the spatial model's alone, if the caller does not say."""

    def scales(self, strengths: Strengths, rows: int) -> list[tuple[float, ...]]:
        """n numbers for each row of a run: see `Call.scales`.

        Raises:
            RealCompoError: a strength that is out of range, or not of this kind of model.
        """

    def phrases(self, layouts: Sequence[Layout]) -> list[str]:
        """The texts whose pooled embeddings it needs."""

    def condition(
        self, layouts: Sequence[Layout], pooled: Mapping[str, Tensor], guided: bool, stats: Stats
    ) -> Condition:
        """The condition of images with these layouts; if guided, the unconditional rows come first.

        Raises:
            RealCompoError: a layout that it cannot be made from.
        """

    def no_condition(self, rows: int) -> Condition:
        """For calls that have no row of the spatial model, where engines ask for a condition nevertheless."""
