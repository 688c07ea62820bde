"""Do the maps know where objects are? Asked of noised pictures whose truth is known, and of runs while they draw.

Engines give the mean over a model's map layers, which is what the balancer reads. Layers are told apart in PyTorch.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler
from PIL import Image
from torch import Tensor

from benchmarks.eager.realcompo import EagerRealCompo
from benchmarks.eager.settings import Settings
from benchmarks.study.cases import Case
from benchmarks.study.contenders import Contender
from benchmarks.study.drawing import Advance, Studio, batches
from benchmarks.study.maps import MEASURES
from benchmarks.study.scorers import Finder, Scorer
from benchmarks.study.statistics import Estimate, estimate
from export.checkpoints.folders import load_vae
from export.onnx.verify import checkpoints_at_hand
from runtime import RealCompo, Region
from runtime.layouts.geometry import Box
from runtime.words import MODELS, Model

TIMESTEPS = (1, 101, 301, 501, 701, 901)
WATCHED = ("text_to_image", "spatial", "exact")  # modes whose maps are looked at while they draw
ALONE = Settings(guidance_scale=1.0)  # conditional rows alone
MEAN = "mean"  # over the layers
Truth = Literal["region", "found"]  # where the layout wants an object, or where the finished picture has it

Seen = dict[tuple[str, Truth, str, float], list[dict[str, float]]]  # as in `Look`, up to the timestep: of each picture


@dataclass(frozen=True)
class Look:
    """What maps knew, as means over pictures of the mean over a picture's regions."""

    source: Literal["noised", "drawing"]
    of: str  # the model, or the mode that draws
    truth: Truth
    layer: str  # or MEAN
    timestep: float
    lift: Estimate
    pointing: Estimate
    auc: Estimate

    def as_json(self) -> dict[str, Any]:
        return {name: v.as_json() if isinstance(v, Estimate) else v for name, v in vars(self).items()}


def open_vae(pipe: RealCompo, bundle: Path) -> AutoencoderKL | None:
    """The encoder that the bundle lacks, if the checkpoints that it was built from are on this machine."""
    checkpoints = checkpoints_at_hand(bundle, pipe.manifest)
    return load_vae(checkpoints.text_to_image) if checkpoints else None


def in_noised_pictures(studio: Studio, vae: AutoencoderKL, advance: Advance) -> list[Look]:
    """Of each model, in pictures in its own style, at noise that it was trained on."""
    seen: Seen = defaultdict(list)
    for batch in batches(len(studio.cases), studio.sampling.batch):
        cases = [studio.cases[i] for i in batch]
        for model in MODELS:
            for timestep, maps in noised_maps(studio.pipe, vae, cases, batch, model):
                regions = [case.layout.regions for case in cases]
                seen[model, "region", MEAN, timestep] += measure_maps(studio.pipe, maps, regions)
        advance(len(cases))
    return _looks("noised", seen)


def in_each_layer(studio: Studio, vae: AutoencoderKL, eager: EagerRealCompo, advance: Advance) -> list[Look]:
    """The same of each map layer, by the checkpoints in PyTorch."""
    seen: Seen = defaultdict(list)
    for batch in batches(len(studio.cases), studio.sampling.batch):
        cases = [studio.cases[i] for i in batch]
        run = eager.prepare([case.prompt for case in cases], [case.layout for case in cases], ALONE)
        for model in MODELS:
            for timestep, latents in noised(studio.pipe, vae, cases, batch, model):
                with torch.no_grad():
                    layers = eager.layer_maps(run, model, latents, timestep)
                for layer, maps in layers.items():
                    of_regions = run.regions.tokens @ maps.transpose(1, 2)
                    regions = [case.layout.regions for case in cases]
                    seen[model, "region", layer, timestep] += measure_maps(studio.pipe, of_regions, regions)
        advance(len(cases))
    return _looks("noised", seen)


def noised_maps(
    pipe: RealCompo, vae: AutoencoderKL, cases: Sequence[Case], seeds: Sequence[int], model: Model
) -> Iterator[tuple[int, Tensor]]:
    """(timestep, region maps (B,R,P)) of the cases' pictures in the model's style."""
    prompts, layouts = [case.prompt for case in cases], [case.layout for case in cases]
    for timestep, latents in noised(pipe, vae, cases, seeds, model):
        yield timestep, pipe.region_maps(prompts, layout=layouts, latents=latents, timestep=timestep)[model]


def noised(
    pipe: RealCompo, vae: AutoencoderKL, cases: Sequence[Case], seeds: Sequence[int], model: Model
) -> Iterator[tuple[int, Tensor]]:
    """(timestep, latents (B,4,h,w)) of the cases' pictures in the model's style, with the noise of each one's seed."""
    latents = encode(vae, [case.pictures[model] for case in cases], pipe.manifest.image_size)
    noise = torch.stack([torch.randn(latents[0].shape, generator=torch.Generator().manual_seed(i)) for i in seeds])
    schedule = DDIMScheduler.from_config(pipe.manifest.scheduler)
    for timestep in TIMESTEPS:
        yield timestep, schedule.add_noise(latents, noise, torch.full((len(cases),), timestep))


def encode(vae: AutoencoderKL, pictures: Sequence[Image.Image], size: tuple[int, int]) -> Tensor:
    """Latents (B,4,h,w) of pictures at the bundle's (height, width), scaled as the models know them."""
    resized = [picture.resize(size[::-1], Image.Resampling.LANCZOS) for picture in pictures]
    pixels = torch.stack([torch.from_numpy(np.asarray(picture).copy()) for picture in resized])
    with torch.no_grad():
        mean = vae.encode(pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).latent_dist.mean
    return mean * vae.config.scaling_factor


def while_drawing(studio: Studio, watched: Sequence[Contender], scorer: Scorer, advance: Advance) -> list[Look]:
    """Of the maps that the balancer would read in each mode, against the regions, and against where a scorer that can
    find objects finds them in the finished picture."""
    seen: Seen = defaultdict(list)
    for contender in watched:
        for cases, output in studio.outputs(contender, trace=True):
            truths = _truths(cases, output.images, scorer)
            for step in {step.timestep: step for step in output.trace}.values():  # PLMS evaluates one of them twice
                for truth, regions in truths.items():
                    seen[contender.name, truth, MEAN, step.timestep] += measure_maps(
                        studio.pipe, step.region_maps, regions
                    )
            advance(len(cases))
    return _looks("drawing", seen)


def measure_maps(pipe: RealCompo, maps: Tensor, regions: Sequence[Sequence[Region | None]]) -> list[dict[str, float]]:
    """What each picture's maps (B,R,P) know of its regions, as a mean over those that there are."""
    return [_of_picture(pipe, own.numpy(force=True), placed) for own, placed in zip(maps, regions, strict=True)]


def _of_picture(pipe: RealCompo, maps: np.ndarray, regions: Sequence[Region | None]) -> dict[str, float]:
    there = [(attention, region) for attention, region in zip(maps, regions, strict=False) if region]
    if not there:
        return dict.fromkeys(MEASURES, np.nan)
    attention = np.stack([attention for attention, _ in there])
    masks = np.stack([region.mask_at(pipe.manifest.maps.resolution).flatten() for _, region in there])
    return {name: _mean(measure(attention, masks)) for name, measure in MEASURES.items()}


def _mean(values: np.ndarray) -> float:
    """Of those that are known; NaN if none is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan


def _truths(
    cases: Sequence[Case], images: Sequence[Image.Image], scorer: Scorer
) -> dict[Truth, list[Sequence[Region | None]]]:
    asked: dict[Truth, list[Sequence[Region | None]]] = {"region": [case.layout.regions for case in cases]}
    if not isinstance(scorer, Finder):
        return asked
    found: list[Sequence[Region | None]] = [
        _place(scorer.find(image, case.layout), case) for image, case in zip(images, cases, strict=True)
    ]
    return {**asked, "found": found}


def _place(boxes: Sequence[Box | None], case: Case) -> list[Region | None]:
    return [
        Region(region.phrase, box=box) if box else None for region, box in zip(case.layout.regions, boxes, strict=True)
    ]


def _looks(source: Literal["noised", "drawing"], seen: Seen) -> list[Look]:
    return [
        Look(source, *key, *(estimate([one[name] for one in found]) for name in MEASURES))
        for key, found in seen.items()
    ]
