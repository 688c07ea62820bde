"""Whole runs of a pair with ControlNets: against diffusers' pipelines, and against the eager RealCompo."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DPMSolverMultistepScheduler,
    PNDMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer, CLIPTextModel
from typer.testing import CliRunner

from benchmarks.eager.method import attention_loss
from benchmarks.eager.realcompo import EagerRealCompo, Run
from benchmarks.eager.settings import Form, Settings
from benchmarks.rehearsal import rehearse
from export.pairs import Pair
from runtime import Layout, RealCompo, Region
from runtime.__main__ import app
from runtime.errors import RealCompoError
from runtime.output import Output
from tests.benchmarks.profiles import assert_profiled, profile, run
from tests.export.conftest import TOKENS

LAYOUT = Layout([Region("red ball", box=(0.1, 0.1, 0.6, 0.6)), Region("a", box=(0.5, 0.4, 0.9, 1.0), tokens=[1])])
SAMPLERS: dict[str, Any] = {
    "plms": (PNDMScheduler, {"skip_prk_steps": True}),
    "dpm++2m": (DPMSolverMultistepScheduler, {}),
}


SHOWN = ("openpose", "segmentation", "depth")


def control_image(layout: Layout, kind: str, size: tuple[int, int], pen: str = "thin") -> Tensor:
    """Regions in another colour for each kind, over noise: what kinds really show is for the tests of their drawing."""
    image = 0.5 * torch.rand(3, *size, generator=torch.Generator().manual_seed(SHOWN.index(kind)))
    for region in layout.regions:
        image[SHOWN.index(kind)] += 0.5 * torch.from_numpy(region.mask_at(size))
    return image.clamp(max=1)


@pytest.fixture(autouse=True, scope="module")
def drawn_here() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in ("runtime.spatial.attached", "benchmarks.eager.conditions"):
            patch.setattr(f"{module}.control_image", control_image)
        yield


@pytest.fixture(scope="module")
def pipe(controlled_bundle: Path) -> RealCompo:
    return RealCompo.load(controlled_bundle)


def stock(
    pair: Pair, unet: UNet2DConditionModel, controlnets: Sequence[ControlNetModel], sampler: str
) -> StableDiffusionControlNetPipeline:
    folder = Path(pair.text_to_image)
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    tokenizer.model_max_length = TOKENS
    scheduler, settings = SAMPLERS[sampler]
    pipeline = StableDiffusionControlNetPipeline(
        vae=AutoencoderKL.from_pretrained(folder / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder"),
        tokenizer=tokenizer,
        unet=unet,
        controlnet=list(controlnets) if len(controlnets) > 1 else controlnets[0],
        scheduler=scheduler.from_pretrained(folder / "scheduler", **settings),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def relative_distance(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(
    ("scales", "starts", "ends"),
    [((1.0, 1.0), (0.0, 0.0), (1.0, 1.0)), ((0.6, 1.4), (0.0, 0.25), (0.5, 1.0))],
    ids=["whole", "parts"],
)
def test_spatial_alone_is_the_stock_pipeline_with_two_controlnets(
    pipe: RealCompo,
    controlled_pair: Pair,
    unet: UNet2DConditionModel,
    controlnets: list[ControlNetModel],
    sampler: str,
    scales: tuple[float, float],
    starts: tuple[float, float],
    ends: tuple[float, float],
) -> None:
    ours = pipe(
        "a red ball",
        layout=LAYOUT,
        gradient="spatial",
        steps=10,
        sampler=sampler,
        seed=3,
        num_images=2,
        control_scale=scales,
        control_start=starts,
        control_end=ends,
    )
    theirs = stock(controlled_pair, unet, controlnets, sampler)(
        "a red ball",
        image=[control_image(LAYOUT, kind, (16, 16))[None] for kind in pipe.manifest.spatial.controls],
        height=16,
        width=16,
        num_inference_steps=10,
        guidance_scale=7.5,
        num_images_per_prompt=2,
        generator=torch.Generator().manual_seed(3),
        controlnet_conditioning_scale=list(scales),
        control_guidance_start=list(starts),
        control_guidance_end=list(ends),
        output_type="latent",
    )
    assert relative_distance(ours.latents, theirs.images) < 1e-3
    assert ours.stats.rows["controlnet"] == ours.stats.rows["spatial"] == 4 * (11 if sampler == "plms" else 10)


def test_one_controlnet_of_two_is_the_stock_pipeline_with_one(
    pipe: RealCompo, controlled_pair: Pair, unet: UNet2DConditionModel, controlnets: list[ControlNetModel]
) -> None:
    ours = pipe("a red ball", layout=LAYOUT, gradient="spatial", steps=8, seed=5, control_scale=(0, 0.8))
    theirs = stock(controlled_pair, unet, controlnets[1:], "plms")(
        "a red ball",
        image=control_image(LAYOUT, "depth", (16, 16))[None],
        height=16,
        width=16,
        num_inference_steps=8,
        guidance_scale=7.5,
        generator=torch.Generator().manual_seed(5),
        controlnet_conditioning_scale=0.8,
        output_type="latent",
    )
    assert relative_distance(ours.latents, theirs.images) < 1e-3


def test_text_to_image_alone_is_the_stock_pipeline_without_controlnets(
    pipe: RealCompo, controlled_pair: Pair, unet: UNet2DConditionModel, controlnets: list[ControlNetModel]
) -> None:
    ours = pipe("a red ball", gradient="text_to_image", steps=8, seed=5)
    controlled = stock(controlled_pair, unet, controlnets, "plms")
    parts = {name: part for name, part in controlled.components.items() if name != "controlnet"}
    plain = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    plain.scheduler = stock(controlled_pair, unet, controlnets, "plms").scheduler  # it has changed its own
    plain.set_progress_bar_config(disable=True)
    theirs = plain(
        "a red ball",
        height=16,
        width=16,
        num_inference_steps=8,
        guidance_scale=7.5,
        generator=torch.Generator().manual_seed(5),
        output_type="latent",
    )
    assert relative_distance(ours.latents, theirs.images) < 1e-3
    assert ours.stats.calls["controlnet"] == 0


@pytest.fixture(scope="module")
def eager(controlled_pair: Pair) -> EagerRealCompo:
    base, controls = controlled_pair.text_to_image, controlled_pair.controls
    eager = EagerRealCompo.load(base, base, controls=controls)
    eager.texts.tokenizer.model_max_length = TOKENS
    return eager


def start() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(11)
    return torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 2, 8, 8, generator=generator)


def run_engines(
    pipe: RealCompo, settings: Settings, layout: Layout = LAYOUT, **options: Any
) -> tuple[Output, list[Tensor]]:
    """And the latents after each evaluation."""
    latents, coefficients = start()
    seen: list[Tensor] = []
    output = pipe(
        ["red ball", "a red ball"],
        layout=layout,
        latents=latents,
        coefficients=coefficients,
        steps=settings.steps,
        guidance_scale=settings.guidance_scale,
        coefficient_scale=settings.coefficient_scale,
        gradient_from=settings.form.gradient_from,
        trial_guidance=settings.form.trial_guidance,
        control_scale=settings.control_scale,
        trace=True,
        callback=lambda i, total, latents, coefficients: seen.append(latents.clone()),
        **options,
    )
    return output, seen


def assert_follows(
    pipe: RealCompo, eager: EagerRealCompo, settings: Settings, layout: Layout = LAYOUT, **options: Any
) -> Output:
    """Coefficients and latents within 1e-3 after every evaluation, of which the first is one of both models."""
    wanted = eager(["red ball", "a red ball"], [layout, layout], *start(), settings)
    output, seen = run_engines(pipe, settings, layout, **options)
    afters = [evaluation.latents for evaluation in wanted.evaluations[1:]] + [wanted.latents]
    for step, latents, evaluation, after in zip(output.trace, seen, wanted.evaluations, afters, strict=True):
        assert relative_distance(latents, after) < 1e-3
        assert relative_distance(step.coefficients, evaluation.coefficients) < 1e-3
    return output


@pytest.mark.parametrize(
    "form",
    [Form(), Form(gradient_from=("text_to_image",)), Form(gradient_from=("spatial",), trial_guidance=True)],
    ids=["paper", "text_to_image", "spatial, guided"],
)
def test_exact_follows_the_eager_run(pipe: RealCompo, eager: EagerRealCompo, form: Form) -> None:
    settings = Settings(8, 3.0, switch_step=0, coefficient_scale=2e7, form=form, control_scale=0.8)
    output = assert_follows(pipe, eager, settings)
    assert (output.trace[-1].coefficients - start()[1]).abs().max() > 0.3
    images, evaluations = 2, 9
    assert output.stats.rows["spatial"] == 4 * images * evaluations  # both models, both rows, in one call
    assert output.stats.calls["spatial"] == output.stats.calls["controlnet"] == evaluations
    assert output.stats.rows["controlnet"] == 2 * images * evaluations
    assert output.stats.rows["spatial_gradient"] == len(form.gradient_from) * images * evaluations


def test_without_updates_and_guidance_it_follows_the_eager_run(pipe: RealCompo, eager: EagerRealCompo) -> None:
    settings = Settings(8, 1.0, switch_step=0, coefficient_scale=0.0)
    assert_follows(pipe, eager, settings, gradient="none")


def test_spatial_first_follows_the_eager_run(pipe: RealCompo, eager: EagerRealCompo) -> None:
    settings = Settings(8, 3.0, switch_step=3, coefficient_scale=2e7)
    assert_follows(pipe, eager, settings, switch_step=3)


def test_surrogate_is_the_gradient_of_the_eager_maps_mixed(pipe: RealCompo, eager: EagerRealCompo) -> None:
    settings = Settings(6, 3.0, switch_step=0, coefficient_scale=1e7)
    output, seen = run_engines(pipe, settings, gradient="surrogate")
    run = eager.prepare(["red ball", "a red ball"], [LAYOUT, LAYOUT], settings)
    latents, coefficients = start()
    for step, after in zip(output.trace, seen, strict=True):
        assert step.gradient is not None
        assert relative_distance(step.gradient, mixed_gradient(eager, run, latents, coefficients, step.timestep)) < 1e-3
        latents, coefficients = after, step.coefficients
    assert (coefficients - start()[1]).abs().max() > 0.3


def mixed_gradient(eager: EagerRealCompo, run: Run, latents: Tensor, coefficients: Tensor, timestep: int) -> Tensor:
    """Times the pixels of the paper's latents and 1e-6; the tiny pair's maps are as large as its latents."""
    with torch.no_grad():
        text, spatial = (eager._see(run, model, latents, timestep) for model in ("text_to_image", "spatial"))
    leaf = coefficients.clone().requires_grad_()
    weights = torch.sigmoid(leaf[:, 1] - leaf[:, 0]).flatten(1).unsqueeze(2)  # (B,P,1) of the spatial model
    attention_loss((1 - weights) * text + weights * spatial, run.regions).sum().backward()
    assert leaf.grad is not None
    return leaf.grad * 64 * 64 * 1e-6


def test_the_roofline_counts_the_calls_of_a_run(pipe: RealCompo, controlled_bundle: Path) -> None:
    options: dict[str, Any] = {"steps": 4, "switch_step": 1, "update_every": 2, "sampler": "dpm++2m"}
    stats = pipe("red ball", layout=LAYOUT, **options).stats
    calls = rehearse(controlled_bundle, regions=2, **options).calls
    assert len(calls) == sum(stats.calls.values())
    assert {role: sum(call.rows for call in calls if call.role == role) for role in stats.rows} == dict(stats.rows)


def test_profiled_rows_are_those_of_an_image(pipe: RealCompo, controlled_bundle: Path) -> None:
    profiles = profile(controlled_bundle)
    assert_profiled(profiles, run(pipe, "red ball", LAYOUT))
    rows = {found.role: found.rows for found in profiles}
    assert (rows["controlnet"], rows["spatial"], rows["spatial_gradient"]) == (2, 4, 2)  # of the last two, both models'


def test_command_line_hands_on_the_strengths(pipe: RealCompo, controlled_bundle: Path, tmp_path: Path) -> None:
    regions = [{"phrase": "red ball", "box": [0.1, 0.1, 0.6, 0.6]}]
    (tmp_path / "layout.json").write_text(json.dumps({"prompt": "red ball", "regions": regions}))
    arguments = ["generate", controlled_bundle, "--layout", tmp_path / "layout.json", "--out", tmp_path / "image.png"]
    strengths = ["--control-scale", "0.5", "--control-scale", "3", "--control-start", "0.25", "--control-end", "0.75"]
    result = CliRunner().invoke(app, [*map(str, arguments), "--steps", "4", *strengths])
    assert result.exit_code == 0, result.output
    options: dict[str, Any] = {"control_scale": (0.5, 3), "control_start": 0.25, "control_end": 0.75}
    wanted = pipe("red ball", layout=Layout.from_file(tmp_path / "layout.json"), steps=4, **options)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "image.png")), np.asarray(wanted.images[0]))
    plain = pipe("red ball", layout=Layout.from_file(tmp_path / "layout.json"), steps=4)
    assert relative_distance(plain.latents, wanted.latents) > 1e-2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"control_scale": (1, 1, 1)}, r"control_scale has 3 numbers for the 2 ControlNets .*\(segmentation, depth\)"),
        ({"control_scale": -1}, "control_scale=-1 is out of range; use 0 to 10"),
        ({"control_start": (0, 0.6), "control_end": 0.5}, "control_start=0.6 is not before control_end=0.5"),
        ({"grounding_fraction": 0.5}, "grounding_fraction=0.5 is for GLIGEN, .*use control_start and control_end"),
    ],
)
def test_options_that_do_not_fit(pipe: RealCompo, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RealCompoError, match=message):
        pipe("red ball", layout=LAYOUT, steps=2, **options)
