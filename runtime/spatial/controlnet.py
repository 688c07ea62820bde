"""ControlNets as spatial model (Zhang et al., arXiv 2302.05543): what they read in control images, they add to the
text-to-image model's own UNet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from runtime.layouts.layout import Layout
from runtime.spatial import attached
from runtime.spatial.attached import Attached, Strengths
from runtime.spatial.kind import Call, RunEngine, SpatialKind, Tensors, keep_rows
from runtime.stats import Stats


class ControlNets(Attached):
    """n ControlNets."""

    def condition(
        self, layouts: Sequence[Layout], pooled: Mapping[str, Tensor], guided: bool, stats: Stats
    ) -> "ControlImages":
        """Unconditional rows see the same images, but for those of ControlNets that are for conditional rows alone."""
        with stats.stage("control images"):
            images = attached.draw(self.manifest, layouts)
            shown = torch.ones(len(images), len(self.manifest.spatial.controls))
            if not guided:
                return self._control_images(images, shown)
            unconditional = shown * ~attached.conditional_alone(self.manifest.spatial)
            return self._control_images(torch.cat([images, images]), torch.cat([unconditional, shown]))

    def no_condition(self, rows: int) -> "ControlImages":
        count = len(self.manifest.spatial.controls)
        return self._control_images(torch.zeros(rows, 3 * count, *self.manifest.image_size), torch.zeros(rows, count))

    def _control_images(self, images: Tensor, shown: Tensor) -> "ControlImages":
        outputs = self.manifest.engines["controlnet"].outputs
        residuals = {made.name: tuple(map(int, made.shape[1:])) for made in outputs}
        return ControlImages(images.to(self.device), shown.to(self.device), residuals)


@dataclass(frozen=True)
class ControlImages:
    """What ControlNets see, and what they add where."""

    images: Tensor  # (B or 2B,3n,H,W) in 0..1
    shown: Tensor  # (B or 2B,n), 1 where a row is shown an image and 0 where it is not
    residuals: Mapping[str, tuple[int, ...]]  # name: shape after the batch

    def tensors(self) -> list[Tensor]:
        return [self.images, self.shown]

    def keep(self, images: Sequence[int], count: int) -> "ControlImages":
        kept, shown = keep_rows(self.images, images, count), keep_rows(self.shown, images, count)
        return replace(self, images=kept, shown=shown)

    def inputs(self, call: Call, run: RunEngine) -> Tensors:
        images = self.images[-call.count :]
        if call.role == "spatial_gradient":  # it has the ControlNets inside, for what they add depends on the latents
            return {"control_images": torch.cat([images] * len(call.models)), "control_scales": call.row_scales()}
        if "spatial" not in call.models:
            return self._zeros(len(call.models) * call.count)
        scales = call.scales * self.shown[-call.count :]
        added = run("controlnet", **call.rows, control_images=images, control_scales=scales)
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
