"""The demo pair end to end: the bundle against diffusers' own pipelines, and what it draws against the scorer."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    PNDMScheduler,
    StableDiffusionGLIGENPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)

from benchmarks.drawing import Sampling, SceneSampling
from benchmarks.quality.measure import score_mode
from benchmarks.study.drawing import Studio
from benchmarks.study.looking import in_noised_pictures, open_vae
from benchmarks.study.tabletop import held_out_cases
from benchmarks.tabletop.layouts import RegionKind
from benchmarks.tabletop.scenes import held_out_scenes
from export.checkpoints.folders import ROOT
from runtime import Layout, RealCompo, Region
from runtime.words import MODELS

PAIR = ROOT / "engines" / "tabletop"
PROMPT = "a red ball and a blue cube"
PHRASES = ["a red ball", "a blue cube"]
BOXES = [(0.08, 0.50, 0.46, 0.88), (0.56, 0.12, 0.94, 0.50)]
LAYOUT = Layout([Region(phrase, box=box) for phrase, box in zip(PHRASES, BOXES, strict=True)])
STEPS = 50
SCHEDULERS = {
    "plms": (PNDMScheduler, {"skip_prk_steps": True}),
    "ddim": (DDIMScheduler, {}),
    "dpm++2m": (DPMSolverMultistepScheduler, {}),
}


@pytest.fixture(scope="module")
def stock() -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(PAIR / "text_to_image", torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def stock_gligen(stock: StableDiffusionPipeline) -> StableDiffusionGLIGENPipeline:
    unet = UNet2DConditionModel.from_pretrained(PAIR / "spatial" / "unet", torch_dtype=torch.float32)
    parts = {name: part for name, part in stock.components.items() if name != "image_encoder"}
    pipeline = StableDiffusionGLIGENPipeline(**{**parts, "unet": unet}, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def with_sampler(pipeline, sampler):
    scheduler, settings = SCHEDULERS[sampler]
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config, **settings)
    return pipeline


def relative_error(ours, theirs):
    return ((ours - theirs).norm() / theirs.norm()).item()


@pytest.mark.parametrize("sampler", SCHEDULERS)
def test_text_to_image_alone_is_the_stock_pipeline(tabletop: RealCompo, stock, sampler):
    ours = tabletop(PROMPT, gradient="text_to_image", steps=STEPS, sampler=sampler, seed=3, num_images=2)
    theirs = with_sampler(stock, sampler)(
        PROMPT,
        num_inference_steps=STEPS,
        guidance_scale=7.5,
        num_images_per_prompt=2,
        generator=torch.Generator().manual_seed(3),
        output_type="latent",
    )
    assert relative_error(ours.latents, theirs.images) < 1e-3


@pytest.mark.parametrize("fraction", [1.0, 0.3])
@pytest.mark.parametrize("sampler", SCHEDULERS)
def test_spatial_alone_is_the_stock_gligen_pipeline(tabletop: RealCompo, stock_gligen, sampler, fraction):
    ours = tabletop(
        PROMPT, layout=LAYOUT, gradient="spatial", steps=STEPS, sampler=sampler, seed=3, grounding_fraction=fraction
    )
    theirs = with_sampler(stock_gligen, sampler)(
        PROMPT,
        gligen_phrases=PHRASES,
        gligen_boxes=[list(box) for box in BOXES],
        gligen_scheduled_sampling_beta=fraction,
        num_inference_steps=STEPS,
        guidance_scale=7.5,
        generator=torch.Generator().manual_seed(3),
        output_type="latent",
    )
    assert relative_error(ours.latents, theirs.images) < 1e-3


@pytest.mark.parametrize("sampler", ["ddim", "dpm++2m"])
@pytest.mark.parametrize("switch", [0, 4, STEPS])
def test_handing_over_is_one_stock_pipeline_after_the_other(tabletop: RealCompo, stock, stock_gligen, sampler, switch):
    """They share a scheduler, which remembers what its steps need."""
    ours = tabletop(
        PROMPT, layout=LAYOUT, gradient="handover", steps=STEPS, sampler=sampler, seed=3, switch_step=switch
    )
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(3))
    shared = SCHEDULERS[sampler][0].from_config(stock.scheduler.config, **SCHEDULERS[sampler][1])
    shared.set_timesteps(STEPS)
    options = {"guidance_scale": 7.5, "output_type": "latent"}
    place = {"gligen_phrases": PHRASES, "gligen_boxes": list(map(list, BOXES)), "gligen_scheduled_sampling_beta": 1.0}
    parts = ((stock_gligen, shared.timesteps[:switch], place), (stock, shared.timesteps[switch:], {}))
    for pipeline, timesteps, told in parts:
        if len(timesteps):
            before, pipeline.scheduler = pipeline.scheduler, Part(shared, timesteps)
            latents = pipeline(PROMPT, latents=latents, num_inference_steps=len(timesteps), **told, **options).images
            pipeline.scheduler = before
    assert relative_error(ours.latents, latents) < 1e-3
    assert (
        ours.stats.calls
        == Counter(
            {"text_encoder": 1, "grounding": 1, "vae_decoder": 1, "spatial": switch, "text_to_image": STEPS - switch}
        )
        - Counter()
    )


class Part:
    """Some of the timesteps of a scheduler that goes on where it is."""

    def __init__(self, scheduler, timesteps):
        self._scheduler, self.timesteps = scheduler, timesteps

    def set_timesteps(self, *_, **__):
        pass

    def __getattr__(self, name):
        return getattr(self._scheduler, name)


@pytest.mark.parametrize(
    ("mode", "alone", "unused"), [("fixed:0", "text_to_image", "spatial"), ("fixed:1", "spatial", "text_to_image")]
)
def test_a_model_of_no_weight_is_not_run(tabletop: RealCompo, mode, alone, unused):
    fixed, one = (tabletop(PROMPT, layout=LAYOUT, gradient=g, steps=5, seed=3, switch_step=0) for g in (mode, alone))
    assert torch.equal(fixed.latents, one.latents)
    assert fixed.stats.rows[unused] == 0


def test_images_are_the_vae_s(tabletop: RealCompo, stock):
    out = tabletop(PROMPT, gradient="text_to_image", steps=5, seed=1)
    vae: AutoencoderKL = stock.vae
    with torch.no_grad():
        decoded = vae.decode(out.latents / vae.config.scaling_factor).sample[0]
    expected = (decoded / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).numpy() * 255
    np.testing.assert_allclose(np.asarray(out.images[0], np.float32), expected, atol=0.51)


def test_the_pair_meets_its_floors(tabletop: RealCompo):
    """Of docs/tabletop.md. Through the VAE and back, held-out renderings have a realism of 0.958."""
    scenes, sampling = held_out_scenes(40), SceneSampling(steps=20, sampler="dpm++2m", guidance_scale=2.5, batch=8)
    text = score_mode(tabletop, scenes, "text_to_image", sampling)["overall"]
    spatial = score_mode(tabletop, scenes, "spatial", sampling)["overall"]
    assert text.object_recall >= 0.90 and text.count_accuracy >= 0.62 and text.realism >= 0.958 - 0.05
    assert spatial.object_recall >= 0.92 and spatial.in_box >= 0.85
    assert spatial.in_box > text.in_box + 0.5
    assert text.realism > spatial.realism + 0.2


def test_both_models_know_where_objects_are(tabletop: RealCompo, tabletop_bundle: Path):
    """In noised renderings, up to timesteps where noise hides them: chance is 1."""
    studio = Studio(tabletop, held_out_cases(16), Sampling(20, "dpm++2m", 2.5, 8), tabletop_bundle)
    vae = open_vae(tabletop, tabletop_bundle)
    assert vae is not None
    looks = in_noised_pictures(studio, vae, lambda _: None)
    told = [look for look in looks if look.timestep <= 701]
    assert {look.of for look in told} == set(MODELS) and len(told) >= 6
    for look in told:
        assert look.lift.mean >= 4, (look.of, look.timestep)


@pytest.mark.parametrize("regions", ["mask", "keypoints"])
def test_regions_of_other_kinds_place_too(tabletop: RealCompo, regions: RegionKind):
    """The balancer's and GLIGEN's boxes come from silhouettes, or from their outermost points."""
    sampling = SceneSampling(steps=15, sampler="dpm++2m", guidance_scale=2.5, batch=8, regions=regions)
    assert score_mode(tabletop, held_out_scenes(8), "exact", sampling)["overall"].in_box > 0.4
