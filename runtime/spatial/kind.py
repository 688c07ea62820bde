"""What a kind of spatial model is: a row of `runtime.spatial.KINDS`, and the model that it opens."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from runtime.bundle.manifest import Manifest
from runtime.knobs import Knobs
from runtime.layouts.layout import Layout
from runtime.runner import Runner
from runtime.stats import Stats
from runtime.words import Model, Role

Tensors = dict[str, Tensor]


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

    def keep(self, images: Sequence[int], count: int) -> "Condition":
        """The condition of these of the `count` images."""


def keep_rows(rows: Tensor, images: Sequence[int], count: int) -> Tensor:
    """Of `count` images' rows those of some: (count,...), or (2*count,...) with the unconditional ones first."""
    return torch.cat([part[images] for part in rows.split(count)])


class SpatialModel(Protocol):
    """A bundle's spatial model, open."""

    def scales(self, strengths: Any, evaluations: int) -> list[tuple[float, ...]]:
        """n numbers for each evaluation of a run: see `Call.scales`. `strengths` is the kind's record of them.

        Raises:
            RealCompoError: strengths that do not go together, or not with this bundle.
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


@dataclass(frozen=True)
class SpatialKind:
    """How a kind is told from others, and opened."""

    name: str  # in manifests
    title: str  # for people
    roles: tuple[Role, ...]  # of its engines, besides the two UNets and their gradients
    alone: float  # the share of the steps that the spatial model draws alone, if the caller does not say
    strengths: type[Knobs]  # how closely the spatial model follows the layout
    instead: str  # which of them to use where another kind's are given
    open: Callable[[Manifest, Mapping[Role, Runner], torch.device], SpatialModel]

    @property
    def single(self) -> str:
        """The title of one of its models."""
        return self.title.removesuffix("s")
