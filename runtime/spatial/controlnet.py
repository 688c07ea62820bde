"""ControlNets as spatial model (Zhang et al., arXiv 2302.05543): what they read in control images, they add to the
text-to-image model's own UNet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from runtime.bundle.manifest import Manifest
from runtime.errors import RealCompoError
from runtime.knobs import Knobs, knob
from runtime.layouts.layout import Layout
from runtime.runner import Runner
from runtime.spatial.control_images import control_image
from runtime.spatial.kind import Call, RunEngine, SpatialKind, Tensors, keep_rows
from runtime.stats import Stats
from runtime.words import Role

MAX_SCALE = 10  # beyond any use; it catches percentages
PerControl = float | Sequence[float]  # one for all ControlNets, or one each, in the order of `SpatialSpec.controls`


@dataclass(frozen=True, kw_only=True)
class Strengths(Knobs):
    control_scale: PerControl = knob(
        1.0, "Factor of what a ControlNet adds; one for all, or one each.", low=0, high=MAX_SCALE
    )
    control_start: PerControl = knob(
        0.0, "Share of the evaluations after which a ControlNet starts; one for all, or one each.", low=0, high=1
    )
    control_end: PerControl = knob(
        1.0, "Share of the evaluations after which a ControlNet stops; one for all, or one each.", low=0, high=1
    )


@dataclass(frozen=True)
class ControlNets:
    """n ControlNets of the kinds `SpatialSpec.controls`."""

    manifest: Manifest
    runners: Mapping[Role, Runner]
    device: torch.device

    @property
    def _controls(self) -> tuple[str, ...]:
        return self.manifest.spatial.controls

    def scales(self, strengths: Strengths, evaluations: int) -> list[tuple[float, ...]]:
        """Each ControlNet's scale, and 0 outside its start and end, counted as diffusers' pipelines do."""
        scales, starts, ends = (
            self._each(name, getattr(strengths, name)) for name in ("control_scale", "control_start", "control_end")
        )
        for start, end in zip(starts, ends, strict=True):
            if start >= end:
                raise RealCompoError(f"control_start={start} is not before control_end={end}; give 0 <= start < end")
        return [
            tuple(
                0.0 if i / evaluations < start or (i + 1) / evaluations > end else scale
                for scale, start, end in zip(scales, starts, ends, strict=True)
            )
            for i in range(evaluations)
        ]

    def phrases(self, layouts: Sequence[Layout]) -> list[str]:
        return []

    def condition(
        self, layouts: Sequence[Layout], pooled: Mapping[str, Tensor], guided: bool, stats: Stats
    ) -> "ControlImages":
        """Unconditional rows see the same images."""
        with stats.stage("control images"):
            images = torch.stack([self._draw(layout) for layout in layouts])
            return self._control_images(torch.cat([images, images]) if guided else images)

    def no_condition(self, rows: int) -> "ControlImages":
        return self._control_images(torch.zeros(rows, 3 * len(self._controls), *self.manifest.image_size))

    def _draw(self, layout: Layout) -> Tensor:
        """(3n,H,W)."""
        size = self.manifest.image_size
        return torch.cat([control_image(layout, kind, size) for kind in self._controls])

    def _control_images(self, images: Tensor) -> "ControlImages":
        outputs = self.manifest.engines["controlnet"].outputs
        return ControlImages(images.to(self.device), {made.name: tuple(map(int, made.shape[1:])) for made in outputs})

    def _each(self, name: str, given: PerControl) -> list[float]:
        values = list(given) if isinstance(given, Sequence) else [given] * len(self._controls)
        if len(values) != len(self._controls):
            raise RealCompoError(
                f"{name} has {len(values)} numbers for the {len(self._controls)} ControlNets of this bundle "
                f"({', '.join(self._controls)}); give one, or one each"
            )
        return values


@dataclass(frozen=True)
class ControlImages:
    """What ControlNets see, and what they add where."""

    images: Tensor  # (B or 2B,3n,H,W) in 0..1
    residuals: Mapping[str, tuple[int, ...]]  # name: shape after the batch

    def tensors(self) -> list[Tensor]:
        return [self.images]

    def keep(self, images: Sequence[int], count: int) -> "ControlImages":
        return replace(self, images=keep_rows(self.images, images, count))

    def inputs(self, call: Call, run: RunEngine) -> Tensors:
        images = self.images[-call.count :]
        if call.role == "spatial_gradient":  # it has the ControlNets inside, for what they add depends on the latents
            return {"control_images": torch.cat([images] * len(call.models)), "control_scales": call.row_scales()}
        if "spatial" not in call.models:
            return self._zeros(len(call.models) * call.count)
        added = run("controlnet", **call.rows, control_images=images, control_scales=call.scales.expand(call.count, -1))
        if len(call.models) == 1:
            return added
        zeros = self._zeros(call.count)
        return {
            name: torch.cat([added[name] if model == "spatial" else zeros[name] for model in call.models])
            for name in self.residuals
        }

    def _zeros(self, rows: int) -> Tensors:
        return {name: self.images.new_zeros(rows, *shape) for name, shape in self.residuals.items()}


CONTROLNET = SpatialKind(
    name="controlnet",
    title="ControlNets",
    roles=("controlnet",),
    alone=0.0,  # as in the paper: both models share a UNet, and need no start from the spatial one alone
    strengths=Strengths,
    instead="control_start and control_end",
    open=ControlNets,
)
