"""What the models and the loss are told of prompts and layouts."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.eager.settings import Form
from benchmarks.eager.texts import Texts
from runtime.layouts.layout import Layout, Region
from runtime.spatial.control_images import control_image
from runtime.text.tokens import region_tokens
from runtime.words import MAX_REGIONS


class Rows(NamedTuple):
    """What the models are told of N rows; the text-to-image one takes the first two fields alone."""

    encoder_hidden_states: Tensor  # (N,L,D)
    added: dict[str, Tensor]  # text_embeds (N,P) and time_ids (N,6), for SDXL alone
    boxes: Tensor  # (N,30,4), xyxy in 0..1
    phrase_embeddings: Tensor  # (N,30,D)
    masks: Tensor  # (N,30), 1 for a region and 0 for an empty slot
    control_images: Tensor  # (N,3n,H,W) in 0..1, of n ControlNets; with none, the spatial model is GLIGEN


class Regions(NamedTuple):
    """What the loss knows of the layouts; R is the most regions of an image, absent ones weigh 0."""

    masks: Tensor  # (B,R,P) in 0..1, at map resolution, row-major
    tokens: Tensor  # (B,R,L), 1 at the region's tokens
    weights: Tensor  # (B,R)


def place_objects(texts: Texts, layouts: Sequence[Layout]) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (B,30,4), pooled embeddings of phrases (B,30,D) and masks (B,30), 0 in empty slots.

    Raises:
        ValueError: a layout without regions, or with more than there are slots.
    """
    boxes, embeddings, masks = (
        torch.zeros(len(layouts), MAX_REGIONS, *shape, dtype=texts.encoder.dtype, device=texts.encoder.device)
        for shape in ((4,), (texts.phrase_width,), ())
    )
    for b, layout in enumerate(layouts):
        count = len(layout.regions)
        if not 1 <= count <= MAX_REGIONS:
            raise ValueError(f"layout {b} has {count} regions; give 1 to {MAX_REGIONS}")
        boxes[b, :count] = torch.tensor([region.bounding_box() for region in layout.regions]).to(boxes)
        embeddings[b, :count] = texts.pool([region.phrase for region in layout.regions])
        masks[b, :count] = 1
    return boxes, embeddings, masks


def draw_controls(layouts: Sequence[Layout], kinds: Iterable[str], size: tuple[int, int]) -> Tensor:
    """Control images (B,3n,H,W) float32 in 0..1, of n kinds and `size` (H,W)."""
    nothing = torch.zeros(0, *size)
    drawn = [torch.cat([nothing, *(control_image(layout, kind, size) for kind in kinds)]) for layout in layouts]
    return torch.stack(drawn)


def find_regions(
    texts: Texts, prompts: Sequence[str], layouts: Sequence[Layout], map_size: tuple[int, int], form: Form
) -> Regions:
    """float32, on the CPU; the masks at `map_size` (height,width)."""
    most = max(len(layout.regions) for layout in layouts)
    masks, tokens, weights = (
        torch.zeros(len(layouts), most, *shape) for shape in ((math.prod(map_size),), (texts.max_tokens,), ())
    )
    for b, (prompt, layout) in enumerate(zip(prompts, layouts, strict=True)):
        found = region_tokens(texts.align(prompt), layout, texts.max_tokens)
        for r, (region, indices) in enumerate(zip(layout.regions, found, strict=True)):
            masks[b, r] = _mask(region, map_size, form.hard_regions).flatten()
            tokens[b, r, list(indices if region.tokens or not form.one_token else indices[-1:])] = 1
            weights[b, r] = 1
    return Regions(masks, tokens, weights)


def _mask(region: Region, map_size: tuple[int, int], hard: bool) -> Tensor:
    """(height,width) in 0..1; if hard, 1 in a box as the authors' `get_loss` slices it, and 0 outside."""
    if not hard or region.mask is not None:
        cover = torch.from_numpy(region.mask_at(map_size))
        return (cover >= 0.5).float() if hard else cover
    (x0, y0, x1, y1), (height, width) = region.bounding_box(), map_size
    mask = torch.zeros(map_size)
    mask[int(height * y0) : int(height * y1), int(width * x0) : int(width * x1)] = 1
    return mask


def cat_rows(first: Rows, second: Rows) -> Rows:
    """Rows after rows."""
    return Rows(*map(_cat, first, second))


def _cat(first: Any, second: Any) -> Any:
    """Of tensors or of dictionaries of them."""
    if isinstance(first, dict):
        return {name: torch.cat([tensor, second[name]]) for name, tensor in first.items()}
    return torch.cat([first, second])
