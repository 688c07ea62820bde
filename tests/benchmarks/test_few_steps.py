"""Few steps as distilled models are drawn: both models against diffusers' pipelines and schedulers."""

from functools import cache
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, LCMScheduler, TCDScheduler
from torch import Tensor

from benchmarks.eager.stock import stock_spatial, stock_text_to_image
from export.checkpoints.folders import ROOT
from runtime import Layout, RealCompo, Region
from runtime.words import MODELS, Model

PAIR = ROOT / "engines" / "tabletop"
PROMPT = "a red ball and a blue cube"
PHRASES, BOXES = ["a red ball", "a blue cube"], [(0.08, 0.5, 0.46, 0.88), (0.56, 0.12, 0.94, 0.5)]
LAYOUT = Layout([Region(phrase, box=box) for phrase, box in zip(PHRASES, BOXES, strict=True)])
SEED = 11
TCD_ETA = 0.3  # TCD's own, of its paper and its scheduler
# sampler: diffusers' scheduler, and the spacing of both
SCHEDULERS: dict[str, tuple[Any, str | None]] = {
    "lcm": (LCMScheduler, None),
    "tcd": (TCDScheduler, None),
    "ddim": (DDIMScheduler, "trailing"),
    "euler": (EulerDiscreteScheduler, "trailing"),
}


@cache
def stock(model: Model) -> Any:
    base = PAIR / "text_to_image"
    return stock_text_to_image(base) if model == "text_to_image" else stock_spatial(base, PAIR / "spatial")


def of_diffusers(model: Model, sampler: str, steps: int, guidance_scale: float, pipe: RealCompo) -> Tensor:
    """Its pipeline's final latents, from the seed's noise in our order: latents, coefficients, fresh noise."""
    pipeline = stock(model)
    (scheduler, spacing), channels = SCHEDULERS[sampler], pipe.manifest.latent_shape
    config = dict(pipeline.scheduler.config) | {"clip_sample": False}
    pipeline.scheduler = scheduler.from_config(config, **({"timestep_spacing": spacing} if spacing else {}))
    generator = torch.Generator().manual_seed(SEED)
    latents = torch.randn(1, *channels, generator=generator)
    torch.randn(1, 2, *channels[1:], generator=generator)
    placed = {"gligen_phrases": PHRASES, "gligen_boxes": [list(box) for box in BOXES]} if model == "spatial" else {}
    if placed:
        placed["gligen_scheduled_sampling_beta"] = 1.0  # type: ignore[assignment]
    return pipeline(
        PROMPT,
        num_inference_steps=steps,
        guidance_scale=guidance_scale,
        latents=latents,
        generator=generator,
        output_type="latent",
        **({"eta": TCD_ETA} if sampler == "tcd" else {}),  # the pipelines' own default, 0, adds no fresh noise
        **placed,
    ).images


@pytest.mark.parametrize("guidance_scale", [1.0, 2.5])
@pytest.mark.parametrize("steps", [1, 4, 8])
@pytest.mark.parametrize("sampler", SCHEDULERS)
@pytest.mark.parametrize("model", MODELS)
def test_a_model_alone_is_diffusers_pipeline(
    tabletop: RealCompo, model: Model, sampler: str, steps: int, guidance_scale: float
) -> None:
    told = {"sampler": sampler, "spacing": SCHEDULERS[sampler][1], "steps": steps, "guidance_scale": guidance_scale}
    ours = tabletop(PROMPT, layout=LAYOUT, seed=SEED, gradient=model, **told)
    theirs = of_diffusers(model, sampler, steps, guidance_scale, tabletop)
    assert (ours.latents - theirs).norm() < 1e-3 * theirs.norm()
    assert ours.stats.rows[model] == steps * (1 if guidance_scale == 1 else 2)


@pytest.mark.parametrize("gradient", ["exact", "surrogate"])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 8])
def test_what_is_left_of_balancing(tabletop: RealCompo, gradient: str, steps: int) -> None:
    """By default the spatial model draws 0.4 of the steps alone."""
    told = {"sampler": "tcd", "steps": steps, "guidance_scale": 1.0}
    found = tabletop(PROMPT, layout=LAYOUT, gradient=gradient, trace=True, **told)
    moved = [step for step in found.trace if step.gradient is not None]
    assert len(found.trace) == steps and found.latents.isfinite().all()
    assert found.stats.updates == len(moved) == {1: 1, 2: 1, 3: 2, 4: 2, 8: 5}[steps]
    assert all(bool(step.gradient.abs().max() > 0) for step in moved if step.gradient is not None)


def test_nothing_left_of_balancing_is_said(tabletop: RealCompo) -> None:
    told = {"sampler": "tcd", "steps": 2, "switch_step": 2}
    line = "no evaluation moves the coefficients: the spatial model alone draws all 2; give a smaller switch_step"
    with pytest.warns(UserWarning, match=line):
        assert tabletop(PROMPT, layout=LAYOUT, **told).stats.updates == 0
    assert line in tabletop.check(PROMPT, layout=LAYOUT, **told)
    assert not tabletop.check(PROMPT, layout=LAYOUT, gradient="none", **told)
