"""What is asked for: prompts and layouts, one each for every image, the regions as the balancer takes them, knobs."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeVar

import torch
from torch.nn.functional import pad

from runtime.bundle.manifest import Manifest
from runtime.denoising.balancer import Regions
from runtime.errors import FieldError, RealCompoError
from runtime.knobs import Knob, Knobs, check_count, knobs_of, make
from runtime.layouts.layout import Layout
from runtime.options import Options
from runtime.spatial import KINDS, strength_knobs
from runtime.spatial.kind import SpatialKind
from runtime.text.tokens import Prompt, region_tokens

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
NO_LAYOUT = Layout(())


@dataclass(frozen=True)
class Request:
    """What each of B images is to show."""

    prompts: tuple[str, ...]
    negative_prompts: tuple[str, ...]
    layouts: tuple[Layout, ...]
    counts: tuple[int, ...]  # of each prompt's images, side by side; B together


def make_request(
    prompt: str | Sequence[str],
    negative_prompt: str | Sequence[str],
    layout: Layout | Sequence[Layout] | None,
    num_images: int | Sequence[int],
) -> Request:
    """Spread prompts and layouts over the images: `num_images` for each prompt, side by side.

    Raises:
        RealCompoError: lists whose lengths do not go together, or a number of images below 1.
    """
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    negatives = [negative_prompt] * len(prompts) if isinstance(negative_prompt, str) else list(negative_prompt)
    layouts = [layout or NO_LAYOUT] * len(prompts) if isinstance(layout, Layout | None) else list(layout)
    if not prompts:
        raise RealCompoError("prompt is an empty list; give at least one")
    if len(negatives) != len(prompts):
        raise RealCompoError(f"{len(negatives)} negative prompts for {len(prompts)} prompts; give one, or one each")
    counts = _counts(num_images, len(prompts))
    if len(layouts) not in (len(prompts), sum(counts)):
        raise RealCompoError(
            f"{len(layouts)} layouts for {len(prompts)} prompts and {sum(counts)} images; give one, or one each"
        )
    placed = tuple(layouts) if len(layouts) == sum(counts) else _repeat(layouts, counts)
    return Request(_repeat(prompts, counts), _repeat(negatives, counts), placed, counts)


def _counts(num_images: int | Sequence[int], prompts: int) -> tuple[int, ...]:
    counts = (num_images,) * prompts if isinstance(num_images, int) else tuple(num_images)
    if len(counts) != prompts:
        raise RealCompoError(f"{len(counts)} numbers of images for {prompts} prompts; give one, or one each")
    for count in counts:
        check_count("num_images", count)
    return counts


def make_regions(prompts: Sequence[Prompt], layouts: Sequence[Layout], manifest: Manifest, options: Options) -> Regions:
    """The layouts as the balancer takes them, R being the most regions of an image.

    Raises:
        RealCompoError: a phrase that cannot be found in its prompt, token indices out of range, or more regions than
            the bundle takes.
    """
    resolution, most = manifest.maps.resolution, max(len(layout.regions) for layout in layouts)
    if most > manifest.max_regions:
        raise FieldError("regions", f"the layout has {most} regions; this bundle takes at most {manifest.max_regions}")
    masks = torch.zeros(len(layouts), most, math.prod(resolution))
    tokens = torch.zeros(len(layouts), most, manifest.max_tokens)
    weights = torch.zeros(len(layouts), most)
    for b, (prompt, layout) in enumerate(zip(prompts, layouts, strict=True)):
        indices = region_tokens(prompt, layout, manifest.max_tokens, options.one_token)
        for r, region in enumerate(layout.regions):
            masks[b, r] = torch.from_numpy(region.mask_at(resolution, options.hard_regions)).flatten()
            tokens[b, r, list(indices[r])] = 1
            weights[b, r] = 1
    return Regions(masks, tokens, weights)


def pad_regions(regions: Regions, count: int) -> Regions:
    """The same regions with R = `count`: gradient engines take a fixed number, and padding weighs nothing."""
    more = count - regions.weights.shape[1]
    return Regions(
        pad(regions.masks, (0, 0, 0, more)), pad(regions.tokens, (0, 0, 0, more)), pad(regions.weights, (0, more))
    )


def every_knob() -> dict[str, Knob]:
    """All that a call takes besides prompts and layouts, by name: what command lines, servers and pages are made of."""
    return knobs_of(Options) | strength_knobs()


def read_knobs(given: Mapping[str, Any], kind: SpatialKind) -> tuple[Options, Knobs]:
    """The options, and the strengths of a kind of spatial model.

    Raises:
        RealCompoError: a value out of its range, or a strength of another kind that is not at its default.
        TypeError: no knob has that name.
    """
    _check_known(given)
    for other in KINDS.values():
        if other is not kind:
            _check_unused(given, other, kind)
    return make(Options, given), make(kind.strengths, given)


def with_knobs(call: F) -> F:
    """Show in a function's signature the knobs that its `**knobs` stand for."""
    signature = inspect.signature(call)
    own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
    call.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[
            *own,
            *(
                inspect.Parameter(knob.name, inspect.Parameter.KEYWORD_ONLY, default=knob.default, annotation=knob.type)
                for knob in every_knob().values()
            ),
        ]
    )
    return call


def _check_known(given: Mapping[str, Any]) -> None:
    known = every_knob()
    for name in given:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            raise TypeError(f"there is no argument {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""))


def _check_unused(given: Mapping[str, Any], other: SpatialKind, kind: SpatialKind) -> None:
    """Raise RealCompoError if a strength is given that only another kind has."""
    names = knobs_of(other.strengths)
    names = {name: one for name, one in names.items() if name not in knobs_of(kind.strengths)}  # some kinds share them
    used = [name for name in names if name in given and given[name] != names[name].default]
    if not used:
        return
    *first, last = names
    subject = f"{', '.join(first)} and {last} are" if first else f"{last}={given[last]} is"
    raise RealCompoError(
        f"{subject} for {other.title}, and this bundle's spatial model is {kind.title}; use {kind.instead}"
    )


def _repeat(items: Sequence[T], counts: Sequence[int]) -> tuple[T, ...]:
    return tuple(item for item, count in zip(items, counts, strict=True) for _ in range(count))
