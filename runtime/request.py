"""What is asked for: prompts and layouts, one each for every image, and the regions as the balancer takes them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch.nn.functional import pad

from runtime.bundle.manifest import Manifest
from runtime.denoising.balancer import Regions
from runtime.errors import RealCompoError
from runtime.layouts.layout import Layout
from runtime.text.tokens import Prompt, region_tokens

T = TypeVar("T")
NO_LAYOUT = Layout(())


@dataclass(frozen=True)
class Request:
    """What each of B images is to show."""

    prompts: tuple[str, ...]
    negative_prompts: tuple[str, ...]
    layouts: tuple[Layout, ...]


def make_request(
    prompt: str | Sequence[str],
    negative_prompt: str | Sequence[str],
    layout: Layout | Sequence[Layout] | None,
    num_images: int,
) -> Request:
    """Spread prompts and layouts over the images: `num_images` for each prompt, side by side.

    Raises:
        RealCompoError: lists whose lengths do not go together.
    """
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    negatives = [negative_prompt] * len(prompts) if isinstance(negative_prompt, str) else list(negative_prompt)
    layouts = [layout or NO_LAYOUT] * len(prompts) if isinstance(layout, Layout | None) else list(layout)
    if not prompts:
        raise RealCompoError("prompt is an empty list; give at least one")
    if len(negatives) != len(prompts):
        raise RealCompoError(f"{len(negatives)} negative prompts for {len(prompts)} prompts; give one, or one each")
    images = len(prompts) * num_images
    if len(layouts) not in (len(prompts), images):
        raise RealCompoError(
            f"{len(layouts)} layouts for {len(prompts)} prompts and {images} images; give one, or one each"
        )
    return Request(_repeat(prompts, images), _repeat(negatives, images), _repeat(layouts, images))


def make_regions(prompts: Sequence[Prompt], layouts: Sequence[Layout], manifest: Manifest) -> Regions:
    """The layouts as the balancer takes them, R being the most regions of an image.

    Raises:
        RealCompoError: a phrase that cannot be found in its prompt, token indices out of range, or more regions than
            the bundle takes.
    """
    resolution, most = manifest.maps.resolution, max(len(layout.regions) for layout in layouts)
    if most > manifest.max_regions:
        raise RealCompoError(f"the layout has {most} regions; this bundle takes at most {manifest.max_regions}")
    masks = torch.zeros(len(layouts), most, math.prod(resolution))
    tokens = torch.zeros(len(layouts), most, manifest.max_tokens)
    weights = torch.zeros(len(layouts), most)
    for b, (prompt, layout) in enumerate(zip(prompts, layouts, strict=True)):
        indices = region_tokens(prompt, layout, manifest.max_tokens)
        for r, region in enumerate(layout.regions):
            masks[b, r] = torch.from_numpy(region.mask_at(resolution)).flatten()
            tokens[b, r, list(indices[r])] = 1
            weights[b, r] = 1
    return Regions(masks, tokens, weights)


def pad_regions(regions: Regions, count: int) -> Regions:
    """The same regions with R = `count`: gradient engines take a fixed number, and padding weighs nothing."""
    more = count - regions.weights.shape[1]
    return Regions(
        pad(regions.masks, (0, 0, 0, more)), pad(regions.tokens, (0, 0, 0, more)), pad(regions.weights, (0, more))
    )


def _repeat(items: Sequence[T], images: int) -> tuple[T, ...]:
    return tuple(item for item in items for _ in range(images // len(items)))
