"""Models attached to the text-to-image model's own UNet, which see control images: what ControlNets and T2I-Adapters
have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from runtime.bundle.manifest import Manifest, SpatialSpec
from runtime.errors import RealCompoError
from runtime.knobs import Knobs, knob
from runtime.layouts.layout import Layout
from runtime.runner import Runner
from runtime.spatial.control_images import control_image
from runtime.words import Role

MAX_SCALE = 10  # beyond any use; it catches percentages
PerControl = float | Sequence[float]  # one for all attached models, or one each, in the order of `SpatialSpec.controls`


@dataclass(frozen=True, kw_only=True)
class Strengths(Knobs):
    control_scale: PerControl = knob(
        1.0, "Factor of what a ControlNet or T2I-Adapter adds; one for all, or one each.", low=0, high=MAX_SCALE
    )
    control_start: PerControl = knob(
        0.0, "Share of the evaluations after which it starts; one for all, or one each.", low=0, high=1
    )
    control_end: PerControl = knob(
        1.0, "Share of the evaluations after which it stops; one for all, or one each.", low=0, high=1
    )


@dataclass(frozen=True)
class Attached:
    """n models of the kinds `SpatialSpec.controls`. They are told where things are by pictures alone."""

    manifest: Manifest
    runners: Mapping[Role, Runner]
    device: torch.device

    def scales(self, strengths: Strengths, evaluations: int) -> list[tuple[float, ...]]:
        """Each model's scale, see the function `scales`."""
        return scales(self.manifest.spatial, strengths, evaluations)

    def phrases(self, layouts: Sequence[Layout]) -> list[str]:
        return []


def scales(spec: SpatialSpec, strengths: Strengths, evaluations: int) -> list[tuple[float, ...]]:
    """Each model's scale at each evaluation, and 0 outside its start and end, counted as diffusers' pipelines do.

    Raises:
        RealCompoError: a wrong number of them, or an end that is not after its start.
    """
    factors, starts, ends = (
        _each(spec, name, getattr(strengths, name)) for name in ("control_scale", "control_start", "control_end")
    )
    for start, end in zip(starts, ends, strict=True):
        if start >= end:
            raise RealCompoError(f"control_start={start} is not before control_end={end}; give 0 <= start < end")
    return [
        tuple(
            0.0 if i / evaluations < start or (i + 1) / evaluations > end else factor
            for factor, start, end in zip(factors, starts, ends, strict=True)
        )
        for i in range(evaluations)
    ]


def draw(manifest: Manifest, layouts: Sequence[Layout]) -> Tensor:
    """(B,3n,H,W), what n models are shown."""
    return torch.stack([_draw(manifest, layout) for layout in layouts])


def _draw(manifest: Manifest, layout: Layout) -> Tensor:
    size, spec = manifest.image_size, manifest.spatial
    images = (control_image(layout, kind, size, pen=spec.detail(i).pen) for i, kind in enumerate(spec.controls))
    return torch.cat(list(images))


def conditional_alone(spec: SpatialSpec) -> Tensor:
    """(n,) bool: whose picture unconditional rows are not shown."""
    return torch.tensor([spec.detail(i).conditional_alone for i in range(len(spec.controls))])


def _each(spec: SpatialSpec, name: str, given: PerControl) -> list[float]:
    values = list(given) if isinstance(given, Sequence) else [given] * len(spec.controls)
    if len(values) != len(spec.controls):
        raise RealCompoError(
            f"{name} has {len(values)} numbers for the {len(spec.controls)} {_title(spec)} of this bundle "
            f"({', '.join(spec.controls)}); give one, or one each"
        )
    return values


def _title(spec: SpatialSpec) -> str:
    return "T2I-Adapters" if spec.kind == "t2i_adapter" else "ControlNets"
