"""T2I-Adapters as spatial model (Mou et al., arXiv 2302.08453): what they see in control images, once an image, is
added to the text-to-image model's own UNet at every step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from runtime.layouts.layout import Layout
from runtime.spatial import attached
from runtime.spatial.attached import Attached, Strengths
from runtime.spatial.kind import Call, RunEngine, SpatialKind, Tensors, keep_rows
from runtime.stats import Stats


class T2IAdapters(Attached):
    """n T2I-Adapters."""

    def condition(
        self, layouts: Sequence[Layout], pooled: Mapping[str, Tensor], guided: bool, stats: Stats
    ) -> "Features":
        """Unconditional rows are added the same."""
        with stats.stage("control images"):
            images = attached.draw(self.manifest, layouts).to(self.device)
        with stats.stage("adapter"):
            seen = stats.run(self.runners["adapter"], control_images=images)
            times = 2 if guided else 1
            return Features({name: torch.cat([feature] * times) for name, feature in seen.items()})

    def no_condition(self, rows: int) -> "Features":
        shapes = {made.name: tuple(map(int, made.shape[1:])) for made in self.manifest.engines["adapter"].outputs}
        return Features({name: torch.zeros(rows, *shape, device=self.device) for name, shape in shapes.items()})


@dataclass(frozen=True)
class Features:
    """What n adapters saw."""

    seen: Tensors  # (B or 2B,n,C,.,.) each

    def tensors(self) -> list[Tensor]:
        return list(self.seen.values())

    def keep(self, images: Sequence[int], count: int) -> "Features":
        return Features({name: keep_rows(feature, images, count) for name, feature in self.seen.items()})

    def inputs(self, call: Call, run: RunEngine) -> Tensors:
        """Scaled and added up; the text-to-image model's rows are added nothing."""
        scales = call.row_scales()[:, :, None, None, None]
        return {
            name: (scales * torch.cat([feature[-call.count :]] * len(call.models))).sum(dim=1)
            for name, feature in self.seen.items()
        }


T2I_ADAPTER = SpatialKind(
    name="t2i_adapter",
    title="T2I-Adapters",
    roles=("adapter",),
    alone=0.0,  # as with ControlNets: both models share a UNet
    strengths=Strengths,
    instead="control_start and control_end",
    open=T2IAdapters,
)
