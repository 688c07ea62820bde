"""What a kind of spatial model is: a row of `KINDS`."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from export.checkpoints.folders import Checkpoint, Checkpoints
from export.graphs.engine import Engine
from export.graphs.geometry import Geometry
from export.pairs import Pair
from export.words import Component
from runtime.bundle.manifest import SpatialSpec


class SpatialKind(ABC):
    """How a kind's models are named, opened, checked, measured and made into engines."""

    name: str  # in manifests
    component: Component = "unet"  # what it takes of its own models
    engines: tuple[Engine, ...]  # `spatial`, `spatial_gradient`, and what else it needs

    @abstractmethod
    def replace(self, pair: Pair, given: Sequence[str]) -> Pair:
        """The pair with its spatial models replaced by those that --spatial names, if any; its text-to-image model
        may be another already.

        Raises:
            RealCompoError: it takes no such models.
        """

    @abstractmethod
    def open(self, pair: Pair, base: Checkpoint, download: bool) -> Checkpoints:
        """The pair's checkpoints, beside the text-to-image model's.

        Raises:
            RealCompoError: one cannot be had, or lacks a file.
        """

    @abstractmethod
    def check(self, checkpoints: Checkpoints) -> None:
        """Raise RealCompoError for the first thing that is not supported, or that does not fit the other model."""

    @abstractmethod
    def shares_unet(self, checkpoints: Checkpoints) -> bool:
        """Whether one UNet serves both models, the text-to-image one being told of no layout."""

    def measure(self, checkpoints: Checkpoints, geometry: Geometry) -> Geometry:
        """The sizes of what it adds."""
        return geometry

    def spec(self, pair: Pair, checkpoints: Checkpoints) -> SpatialSpec:
        """What the manifest says of it."""
        return SpatialSpec(kind=self.name)


def over_base(pair: Pair) -> Pair:
    """The pair whose spatial UNet is its text-to-image one."""
    return replace(pair, spatial=pair.text_to_image)
