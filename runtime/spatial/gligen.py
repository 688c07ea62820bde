"""GLIGEN as spatial model (Li et al., arXiv 2301.07093): boxes and phrases become tokens that its gates let in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from runtime.bundle.manifest import Manifest
from runtime.knobs import Knobs, knob
from runtime.layouts.layout import Layout
from runtime.runner import Runner
from runtime.spatial.kind import Call, RunEngine, SpatialKind, Tensors, keep_rows
from runtime.stats import Stats
from runtime.words import Role


@dataclass(frozen=True, kw_only=True)
class Strengths(Knobs):
    grounding_fraction: float = knob(
        1.0, "Share of the evaluations, the first ones, in which GLIGEN sees the layout.", low=0, high=1
    )


@dataclass(frozen=True)
class Gligen:
    """N is the bundle's `max_regions`, D the text encoder's width."""

    manifest: Manifest
    runners: Mapping[Role, Runner]
    device: torch.device

    def scales(self, strengths: Strengths, evaluations: int) -> list[tuple[float, ...]]:
        """1 while the gates are on: the first ones, counted as diffusers' scheduled sampling does."""
        return [(float(i < int(strengths.grounding_fraction * evaluations)),) for i in range(evaluations)]

    def phrases(self, layouts: Sequence[Layout]) -> list[str]:
        return [region.phrase for layout in layouts for region in layout.regions]

    def condition(
        self, layouts: Sequence[Layout], pooled: Mapping[str, Tensor], guided: bool, stats: Stats
    ) -> "ObjectTokens":
        """Unconditional rows have every slot masked."""
        boxes, masks = self._place_boxes(layouts)
        embeddings = self._place_embeddings(layouts, pooled)
        if guided:
            boxes, embeddings = torch.cat([boxes, boxes]), torch.cat([embeddings, embeddings])
            masks = torch.cat([torch.zeros_like(masks), masks])
        with stats.stage("grounding"):
            grounded = stats.run(
                self.runners["grounding"],
                boxes=boxes.to(self.device),
                phrase_embeddings=embeddings.to(self.device),
                masks=masks.to(self.device),
            )
            return ObjectTokens(grounded["object_tokens"].clone())

    def no_condition(self, rows: int) -> "ObjectTokens":
        width = self.manifest.engines["spatial"].input("object_tokens").shape[-1]
        return ObjectTokens(torch.zeros(rows, self.manifest.max_regions, int(width), device=self.device))

    def _place_boxes(self, layouts: Sequence[Layout]) -> tuple[Tensor, Tensor]:
        """(B,N,4) float32, xyxy in 0..1, and (B,N) float32, 1 for a region and 0 for padding."""
        boxes = torch.zeros(len(layouts), self.manifest.max_regions, 4)
        masks = torch.zeros(len(layouts), self.manifest.max_regions)
        for b, layout in enumerate(layouts):
            count = len(layout.regions)
            boxes[b, :count] = torch.tensor([region.bounding_box() for region in layout.regions]).reshape(-1, 4)
            masks[b, :count] = 1
        return boxes, masks

    def _place_embeddings(self, layouts: Sequence[Layout], pooled: Mapping[str, Tensor]) -> Tensor:
        """Every region's phrase embedding (D,) at its place among the slots: (B,N,D) float32."""
        width = next(iter(pooled.values())).shape[-1]
        placed = torch.zeros(len(layouts), self.manifest.max_regions, width)
        for b, layout in enumerate(layouts):
            for n, region in enumerate(layout.regions):
                placed[b, n] = pooled[region.phrase]
        return placed


@dataclass(frozen=True)
class ObjectTokens:
    """What GLIGEN's gates let in."""

    tokens: Tensor  # (B or 2B,N,D)

    def tensors(self) -> list[Tensor]:
        return [self.tokens]

    def keep(self, images: Sequence[int], count: int) -> "ObjectTokens":
        return ObjectTokens(keep_rows(self.tokens, images, count))

    def inputs(self, call: Call, run: RunEngine) -> Tensors:
        tokens = self.tokens[-call.count :]
        return {
            "object_tokens": torch.cat([tokens] * len(call.models)),
            "grounding_scale": call.row_scales()[:, 0].contiguous(),
        }


GLIGEN = SpatialKind(
    name="gligen",
    title="GLIGEN",
    roles=("grounding",),
    alone=0.4,  # GLIGEN lays the picture out, as in the paper
    strengths=Strengths,
    instead="grounding_fraction",
    open=Gligen,
)
