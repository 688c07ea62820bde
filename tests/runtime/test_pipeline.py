"""The pipeline against a loop written here over the same networks in PyTorch and diffusers' own schedulers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.schedulers import DDIMScheduler, DPMSolverMultistepScheduler, PNDMScheduler
from torch import Tensor, nn

from runtime import Layout, RealCompo, RealCompoError, Region
from runtime.words import MODELS, Model, Role
from tests.runtime.bundles import CONTEXT, LATENT, LATENT_SCALE, SCHEDULER, SLOTS, WIDTH, Part, make_tokenizer

PROMPT = "a red ball and a blue cube"
BOXES = [(0.05, 0.5, 0.45, 0.9), (0.5, 0.1, 0.9, 0.6)]
LAYOUT = Layout([Region("a red ball", box=BOXES[0]), Region("a blue cube", box=BOXES[1])])
SEED, SCALE = 3, 5.0


def make_scheduler(sampler: str) -> Any:
    if sampler == "plms":
        return PNDMScheduler.from_config(SCHEDULER, skip_prk_steps=True)
    return (DDIMScheduler if sampler == "ddim" else DPMSolverMultistepScheduler).from_config(SCHEDULER)


class Oracle:
    """Both models in plain PyTorch, one row at a time."""

    def __init__(self, parts: dict[Role, Part]) -> None:
        self.nets: dict[Role, nn.Module] = {role: part.module for role, part in parts.items()}
        self.tokenizer = make_tokenizer()

    def text(self, text: str) -> tuple[Tensor, Tensor]:
        ids = self.tokenizer.encode(text).ids
        ids += [ids[-1]] * (CONTEXT - len(ids))
        hidden, pooled = self.nets["text_encoder"](torch.tensor([ids]))
        return hidden, pooled

    def objects(self, present: bool) -> Tensor:
        boxes, phrases, masks = torch.zeros(1, SLOTS, 4), torch.zeros(1, SLOTS, WIDTH), torch.zeros(1, SLOTS)
        for i, region in enumerate(LAYOUT.regions):
            boxes[0, i] = torch.tensor(BOXES[i])
            phrases[0, i] = self.text(region.phrase)[1][0]
            masks[0, i] = present
        objects: Tensor = self.nets["grounding"](boxes, phrases, masks)
        return objects

    def noise(self, model: Role, latents: Tensor, timestep: Any, gates: float = 1.0, scale: float = SCALE) -> Tensor:
        predicted = []
        for text, present in (("", False), (PROMPT, True)):
            grounding = (self.objects(present), torch.tensor([gates])) if model == "spatial" else ()
            predicted.append(
                self.nets[model](latents, torch.tensor([int(timestep)]), self.text(text)[0], *grounding)[0]
            )
        guided: Tensor = predicted[0] + scale * (predicted[1] - predicted[0])
        return guided if scale > 1 else predicted[1]

    def loss(self, model: Role, latents: Tensor, timestep: Any) -> Tensor:
        """The attention loss of one model, region by region."""
        grounding = (self.objects(True), torch.ones(1)) if model == "spatial" else ()
        time, hidden = torch.tensor([int(timestep)]), self.text(PROMPT)[0]
        return loss_of_maps(self.nets[model](latents, time, hidden, *grounding)[1][0])


@pytest.fixture(scope="session")
def oracle(parts: dict[Role, Part]) -> Oracle:
    return Oracle(parts)


def first_latents(images: int = 1) -> Tensor:
    return torch.randn((images, 4, LATENT, LATENT), generator=torch.Generator().manual_seed(SEED))


def assert_close(found: Tensor, wanted: Tensor, limit: float = 1e-4) -> None:
    assert (found - wanted).norm() < limit * wanted.norm()


@pytest.mark.parametrize("sampler", ["plms", "ddim", "dpm++2m"])
@pytest.mark.parametrize("model", ["text_to_image", "spatial"])
def test_one_model_equals_a_plain_loop(pipe: RealCompo, oracle: Oracle, model: Role, sampler: str) -> None:
    scheduler = make_scheduler(sampler)
    scheduler.set_timesteps(8)
    latents = first_latents()
    for timestep in scheduler.timesteps:
        latents = scheduler.step(oracle.noise(model, latents, timestep), timestep, latents).prev_sample
    layout = LAYOUT if model == "spatial" else None
    found = pipe(PROMPT, layout=layout, gradient=model, sampler=sampler, steps=8, seed=SEED, guidance_scale=SCALE)
    assert_close(found.latents, latents)
    decoded = oracle.nets["vae_decoder"](latents / LATENT_SCALE)
    pixels = ((decoded[0] / 2 + 0.5).clamp(0, 1) * 255).permute(1, 2, 0).numpy()
    assert np.abs(np.asarray(found.images[0]) - pixels).max() < 0.51 + 0.05


def test_fixed_weight_equals_a_plain_loop(pipe: RealCompo, oracle: Oracle) -> None:
    scheduler = make_scheduler("ddim")
    scheduler.set_timesteps(6)
    latents = first_latents()
    for i, timestep in enumerate(scheduler.timesteps):
        noise = oracle.noise("spatial", latents, timestep)
        if i >= 2:
            noise = 0.3 * noise + 0.7 * oracle.noise("text_to_image", latents, timestep)
        latents = scheduler.step(noise, timestep, latents).prev_sample
    options: dict[str, Any] = {"steps": 6, "seed": SEED, "guidance_scale": SCALE, "switch_step": 2}
    assert_close(pipe(PROMPT, layout=LAYOUT, gradient="fixed:0.3", sampler="ddim", **options).latents, latents)


@pytest.mark.parametrize("model", ["text_to_image", "spatial"])
def test_guidance_of_some_evaluations_equals_a_plain_loop(pipe: RealCompo, oracle: Oracle, model: Model) -> None:
    scheduler = make_scheduler("ddim")
    scheduler.set_timesteps(8)
    latents = first_latents()
    for i, timestep in enumerate(scheduler.timesteps):
        noise = oracle.noise(model, latents, timestep, scale=SCALE if 2 <= i < 6 else 1)
        latents = scheduler.step(noise, timestep, latents).prev_sample
    options: dict[str, Any] = {"steps": 8, "seed": SEED, "guidance_scale": SCALE, "guidance_interval": (0.25, 0.75)}
    found = pipe(PROMPT, layout=LAYOUT, gradient=model, sampler="ddim", **options)
    assert_close(found.latents, latents)
    assert found.stats.rows[model] == 4 * 2 + 4  # the others have no unconditional row


@pytest.mark.parametrize("gradient", ["exact", "surrogate"])
def test_guidance_of_all_or_no_evaluation(pipe: RealCompo, gradient: str) -> None:
    def draw(**options: Any) -> Tensor:
        return pipe(PROMPT, layout=LAYOUT, gradient=gradient, steps=5, seed=SEED, **options).latents

    assert torch.equal(draw(guidance_interval=(0, 1)), draw())
    assert_close(draw(guidance_interval=(0.5, 0.5)), draw(guidance_scale=1.0))


def test_surrogate_equals_a_plain_loop(pipe: RealCompo, oracle: Oracle) -> None:
    """One pixel a map cell's half: maps are 4x4, latents 8x8; the gradient comes from autograd over a loss in loops."""
    generator = torch.Generator().manual_seed(SEED)
    latents = torch.randn((1, 4, LATENT, LATENT), generator=generator)
    coefficients = torch.randn((1, 2, LATENT, LATENT), generator=generator)
    scheduler = make_scheduler("ddim")
    scheduler.set_timesteps(4)
    for i, timestep in enumerate(scheduler.timesteps):
        noises = [oracle.noise(model, latents, timestep) for model in ("text_to_image", "spatial")]
        if i >= 1:
            leaf = coefficients.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(loss_in_loops(oracle, latents, timestep, leaf), leaf)
            coefficients = coefficients - (1 - 0.5 * i / 3) ** 0.5 * LATENT**2 * gradient
        weights = coefficients.softmax(1)
        noise = weights[:, :1] * noises[0] + weights[:, 1:] * noises[1] if i >= 1 else noises[1]
        latents = scheduler.step(noise, timestep, latents).prev_sample
    options: dict[str, Any] = {"steps": 4, "seed": SEED, "guidance_scale": SCALE, "switch_step": 1, "trace": True}
    found = pipe(PROMPT, layout=LAYOUT, sampler="ddim", gradient="surrogate", **options)
    assert_close(found.latents, latents)
    assert_close(found.trace[-1].coefficients, coefficients)


@pytest.mark.parametrize("sampler", ["ddim", "plms"])
@pytest.mark.parametrize(
    ("gradient_from", "trial_guidance"),
    [(MODELS, False), (("spatial",), False), (MODELS, True), (("text_to_image",), True)],
)
def test_exact_equals_a_plain_loop(
    pipe: RealCompo, oracle: Oracle, sampler: str, gradient_from: tuple[Model, ...], trial_guidance: bool
) -> None:
    """Autograd through both networks, with diffusers' own DDIM step as the trial."""
    generator = torch.Generator().manual_seed(SEED)
    latents = torch.randn((1, 4, LATENT, LATENT), generator=generator)
    coefficients = torch.randn((1, 2, LATENT, LATENT), generator=generator)
    scheduler, trial = make_scheduler(sampler), make_scheduler("ddim")
    scheduler.set_timesteps(4)
    trial.set_timesteps(4)
    rows = len(scheduler.timesteps)
    for i, timestep in enumerate(scheduler.timesteps):
        noises = [oracle.noise(model, latents, timestep) for model in MODELS]
        scale = SCALE if trial_guidance else 1
        tried = [oracle.noise(model, latents, timestep, scale=scale) for model in MODELS]
        leaf = coefficients.clone().requires_grad_()
        ahead = trial.step(mix(tried, leaf), timestep, latents).prev_sample
        loss = sum(oracle.loss(model, ahead, timestep) for model in gradient_from)
        (gradient,) = torch.autograd.grad(loss, leaf)  # type: ignore[arg-type]
        coefficients = coefficients - 1e3 * (1 - 0.5 * i / (rows - 1)) ** 0.5 * gradient  # a pixel
        latents = scheduler.step(mix(noises, coefficients), timestep, latents).prev_sample
    found = pipe(
        PROMPT,
        layout=LAYOUT,
        sampler=sampler,
        gradient_from=gradient_from,
        trial_guidance=trial_guidance,
        coefficient_scale=1e3 * 64**2 / LATENT**2,
        steps=4,
        seed=SEED,
        guidance_scale=SCALE,
        switch_step=0,
        trace=True,
    )
    assert_close(found.latents, latents)
    assert_close(found.trace[-1].coefficients, coefficients)
    assert found.trace[-1].gradient is not None
    assert_close(found.trace[-1].gradient, gradient)
    assert found.stats.rows["spatial_gradient"] == rows * ("spatial" in gradient_from)


def mix(noises: list[Tensor], coefficients: Tensor) -> Tensor:
    weights = coefficients.softmax(1)
    return weights[:, :1] * noises[0] + weights[:, 1:] * noises[1]


def test_update_that_is_not_finite_is_left_out(pipe: RealCompo, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine overflows for the second of two images."""
    engine = pipe._runners["spatial_gradient"]

    class Overflowing:
        spec = engine.spec

        def __call__(self, **tensors: Tensor) -> dict[str, Tensor]:
            outputs = engine(**tensors)
            outputs["grad_latents"][1, 0, 0, 0] = float("inf")
            return outputs

    options: dict[str, Any] = {"layout": LAYOUT, "steps": 3, "sampler": "ddim", "switch_step": 1, "num_images": 2}
    whole = pipe(PROMPT, trace=True, **options)
    monkeypatch.setitem(pipe._runners, "spatial_gradient", Overflowing())  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="2 updates of the coefficients were left out") as warned:
        broken = pipe(PROMPT, trace=True, **options)
    assert (len(warned), broken.stats.skipped_updates, whole.stats.skipped_updates) == (1, 2, 0)
    before, after = broken.trace[0].coefficients, broken.trace[-1].coefficients
    torch.testing.assert_close(after[1], before[1])
    torch.testing.assert_close(after[0], whole.trace[-1].coefficients[0])
    assert (after[0] != before[0]).any()


def loss_in_loops(oracle: Oracle, latents: Tensor, timestep: Any, coefficients: Tensor) -> Tensor:
    hidden, time = oracle.text(PROMPT)[0], torch.tensor([int(timestep)])
    text = oracle.nets["text_to_image"](latents, time, hidden)[1][0]
    spatial = oracle.nets["spatial"](latents, time, hidden, oracle.objects(True), torch.ones(1))[1][0]
    weights = coefficients.softmax(1)[0].reshape(2, 4, 2, 4, 2).mean(dim=(2, 4)).reshape(2, 16, 1)
    return loss_of_maps(weights[0] * text + weights[1] * spatial)


def loss_of_maps(maps: Tensor) -> Tensor:
    """Of one image's maps (P,L)."""
    loss = torch.zeros(())
    for region, tokens in zip(LAYOUT.regions, ((2, 3), (6, 7)), strict=True):
        attention = maps[:, list(tokens)].mean(1)
        mask = torch.from_numpy(region.mask_at((4, 4))).flatten()
        loss = loss + 1 - (mask * attention).sum() / attention.sum()
    return loss


def test_coefficients_that_start_equal_are_half_of_each_model(pipe: RealCompo) -> None:
    options: dict[str, Any] = {"layout": LAYOUT, "steps": 4, "seed": SEED}
    equal, half = (
        pipe(PROMPT, gradient="none", coefficients="equal", **options),
        pipe(PROMPT, gradient="fixed:0.5", **options),
    )
    torch.testing.assert_close(equal.latents, half.latents)
    drawn, named = (pipe(PROMPT, gradient="none", coefficients=start, **options) for start in (None, "normal"))
    assert torch.equal(drawn.latents, named.latents) and not torch.allclose(drawn.latents, equal.latents)


def test_gates_close_after_the_grounding_fraction(pipe: RealCompo, oracle: Oracle) -> None:
    scheduler = make_scheduler("plms")
    scheduler.set_timesteps(6)
    latents = first_latents()
    for i, timestep in enumerate(scheduler.timesteps):  # seven of them; int(0.5 * 7) = 3
        latents = scheduler.step(
            oracle.noise("spatial", latents, timestep, float(i < 3)), timestep, latents
        ).prev_sample
    options: dict[str, Any] = {"steps": 6, "seed": SEED, "guidance_scale": SCALE, "grounding_fraction": 0.5}
    assert_close(pipe(PROMPT, layout=LAYOUT, gradient="spatial", **options).latents, latents)


def test_without_guidance_no_unconditional_rows(pipe: RealCompo, oracle: Oracle) -> None:
    scheduler = make_scheduler("plms")
    scheduler.set_timesteps(5)
    latents = first_latents()
    for timestep in scheduler.timesteps:
        latents = scheduler.step(
            oracle.noise("text_to_image", latents, timestep, scale=1.0), timestep, latents
        ).prev_sample
    found = pipe(PROMPT, gradient="text_to_image", steps=5, seed=SEED, guidance_scale=1.0)
    assert_close(found.latents, latents)
    assert found.stats.rows["text_to_image"] == 6


def test_rows_and_calls_are_counted(pipe: RealCompo) -> None:
    stats = pipe(PROMPT, layout=LAYOUT, steps=10, sampler="ddim", num_images=3).stats
    assert dict(stats.calls) == {
        "text_encoder": 1,
        "grounding": 1,
        "spatial": 10,
        "text_to_image": 6,
        "text_to_image_gradient": 6,
        "spatial_gradient": 6,
        "vae_decoder": 1,
    }
    assert dict(stats.rows) == {
        "text_encoder": 4,  # prompt, negative prompt, two phrases
        "grounding": 6,
        "spatial": 60,
        "text_to_image": 36,
        "text_to_image_gradient": 18,  # conditional rows alone
        "spatial_gradient": 18,
        "vae_decoder": 3,
    }
    assert set(stats.seconds) == {"text", "grounding", "denoise", "decode"}


def test_engines_take_part_of_their_stages(pipe: RealCompo) -> None:
    stats = pipe(PROMPT, layout=LAYOUT, steps=4).stats
    assert stats.engine_seconds.keys() == stats.calls.keys()
    assert 0 < stats.engine_seconds["vae_decoder"] < stats.seconds["decode"]
    unets = ("spatial", "text_to_image", "spatial_gradient", "text_to_image_gradient")
    assert 0 < sum(stats.engine_seconds[role] for role in unets) < stats.seconds["denoise"]


@pytest.mark.parametrize("threads", [1, 3, 4])
def test_threads_do_not_change_what_is_drawn(bundle: Path, threads: int) -> None:
    before, drawn = torch.get_num_threads(), {}
    try:
        for count in (2, threads):
            torch.set_num_threads(count)
            drawn[count] = RealCompo.load(bundle)(PROMPT, layout=LAYOUT, steps=6, num_images=3, coefficient_scale=1e3)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(drawn[threads].latents, drawn[2].latents, rtol=1e-3, atol=1e-4)
    assert drawn[threads].stats.rows == drawn[2].stats.rows


def test_a_batch_equals_its_images_one_by_one(pipe: RealCompo) -> None:
    prompts = [PROMPT, "two green cones"]
    layouts = [LAYOUT, Layout([Region("a green cone", box=(0, 0, 0.4, 0.4))])]
    generator = torch.Generator().manual_seed(9)
    latents, coefficients = (torch.randn((4, channels, LATENT, LATENT), generator=generator) for channels in (4, 2))
    options: dict[str, Any] = {"steps": 5, "trace": True}
    batch = pipe(prompts, layout=layouts, num_images=2, latents=latents, coefficients=coefficients, **options)
    for k in range(4):
        alone = pipe(
            prompts[k // 2],
            layout=layouts[k // 2],
            latents=latents[k : k + 1],
            coefficients=coefficients[k : k + 1],
            **options,
        )
        assert_close(batch.latents[k : k + 1], alone.latents)
        assert batch.trace[-1].loss[k].item() == pytest.approx(alone.trace[-1].loss[0].item(), rel=1e-3)


def test_layouts_may_differ_within_a_prompts_images(pipe: RealCompo) -> None:
    other = Layout([Region("a red ball", box=(0.6, 0.0, 1.0, 0.3))])
    both = pipe(PROMPT, layout=[LAYOUT, other], num_images=2, steps=3)
    same = pipe(PROMPT, layout=LAYOUT, num_images=2, steps=3)
    torch.testing.assert_close(both.latents[0], same.latents[0])
    assert not torch.allclose(both.latents[1], same.latents[1])


def test_given_starts_replace_drawn_ones(pipe: RealCompo) -> None:
    generator = torch.Generator().manual_seed(4)
    latents = torch.randn((2, 4, LATENT, LATENT), generator=generator)
    coefficients = torch.randn((2, 2, LATENT, LATENT), generator=generator)
    drawn = pipe(PROMPT, layout=LAYOUT, steps=3, seed=4, num_images=2)
    starts: list[dict[str, Any]] = [{"latents": latents}, {"coefficients": coefficients}]
    for given in starts:
        found = pipe(PROMPT, layout=LAYOUT, steps=3, seed=4, num_images=2, **given)
        torch.testing.assert_close(found.latents, drawn.latents, rtol=0, atol=0)


def test_a_second_run_is_the_same_and_leaves_the_first_alone(pipe: RealCompo) -> None:
    first = pipe(PROMPT, layout=LAYOUT, steps=3)
    kept = first.latents.clone()
    pipe(PROMPT, layout=LAYOUT, steps=3, seed=1)
    torch.testing.assert_close(first.latents, kept, rtol=0, atol=0)
    torch.testing.assert_close(pipe(PROMPT, layout=LAYOUT, steps=3).latents, kept, rtol=0, atol=0)


@pytest.mark.parametrize("gradient", ["exact", "surrogate"])
def test_a_callers_inference_mode_changes_nothing(bundle: Path, pipe: RealCompo, gradient: str) -> None:
    told: dict[str, Any] = {"layout": LAYOUT, "steps": 4, "gradient": gradient, "switch_step": 1}
    with torch.inference_mode():
        given = first_latents()
        drawn = RealCompo.load(bundle)(PROMPT, latents=given, **told)
    assert torch.equal(drawn.latents, pipe(PROMPT, latents=first_latents(), **told).latents)


def test_trace(pipe: RealCompo) -> None:
    output = pipe(PROMPT, layout=LAYOUT, steps=5, sampler="ddim", trace=True, num_images=2, update_every=2)
    assert [step.timestep for step in output.trace] == [801, 601, 401, 201, 1]
    weights = [step.spatial_weight for step in output.trace]
    assert [bool((weight == 1).all()) for weight in weights] == [True, True, False, False, False]
    torch.testing.assert_close(weights[4], output.trace[4].coefficients.softmax(1)[:, 1])
    moved = [
        not torch.equal(before.coefficients, after.coefficients)
        for before, after in zip(output.trace, output.trace[1:], strict=False)
    ]
    assert moved == [False, True, False, True]  # at rows 2 and 4
    assert output.trace[0].region_maps.shape == (2, 2, 16)
    assert output.trace[0].loss.shape == (2,)


def test_both_gradients_lower_the_loss(pipe: RealCompo) -> None:
    losses = {
        gradient: sum(
            step.loss.mean()
            for step in pipe(PROMPT, layout=LAYOUT, steps=12, trace=True, num_images=4, gradient=gradient).trace
        )
        for gradient in ("exact", "surrogate", "none")
    }
    assert losses["exact"] < losses["none"]
    assert losses["surrogate"] < losses["none"]


def test_callback_sees_every_evaluation_and_may_stop(pipe: RealCompo) -> None:
    seen: list[tuple[int, int]] = []
    output = pipe(
        PROMPT,
        layout=LAYOUT,
        steps=3,
        callback=lambda step, total, latents, coefficients: seen.append((step, total)),
    )
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert output.trace == []

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipe(PROMPT, layout=LAYOUT, steps=3, callback=stop)


def test_an_empty_layout_moves_nothing(pipe: RealCompo) -> None:
    exact, surrogate, none = (
        pipe(PROMPT, layout=Layout([]), steps=3, gradient=mode).latents for mode in ("exact", "surrogate", "none")
    )
    torch.testing.assert_close(exact, none)
    torch.testing.assert_close(surrogate, none)


def test_defaults_of_the_switch(pipe: RealCompo) -> None:
    assert pipe(PROMPT, layout=LAYOUT, steps=50, sampler="ddim").stats.calls["text_to_image"] == 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps=0 is out of range"),
        ({"sampler": "heun"}, "sampler='heun' is unknown"),
        ({"guidance_interval": (0.6, 0.5)}, r"guidance_interval=\(0.6, 0.5\) is no interval"),
        ({"guidance_interval": (0, 2)}, "guidance_interval=2 is out of range; use 0 to 1"),
        ({"coefficients": "random"}, "coefficients='random' is unknown; use normal or equal, or a tensor"),
        ({"gradient": "magic"}, "gradient='magic' is unknown; use one of exact, surrogate, none, fixed:W"),
        ({"gradient_from": ()}, r"gradient_from=\(\) does not name models; use \('text_to_image', 'spatial'\)"),
        ({"gradient_from": ("spatial", "depth")}, "does not name models"),
        ({"gradient_from": ("spatial", "spatial")}, "does not name models"),
        ({"gradient": "none:1"}, "is unknown"),
        ({"gradient": "fixed"}, "as in fixed:0.5"),
        ({"gradient": "fixed:2"}, "as in fixed:0.5"),
        ({"gradient": "fixed:nan"}, "as in fixed:0.5"),
        ({"guidance_scale": -1.0}, "guidance_scale=-1.0 is out of range"),
        ({"guidance_scale": float("inf")}, "guidance_scale=inf is out of range"),
        ({"switch_step": 99}, "switch_step=99 is out of range; use 0 to 4"),
        ({"coefficient_scale": float("nan")}, "coefficient_scale=nan is out of range"),
        ({"update_every": 0}, "update_every=0 is out of range; use 1 or more"),
        (
            {"control_scale": 0.5},
            "are for ControlNets, and this bundle's spatial model is GLIGEN; use grounding_fraction",
        ),
        ({"grounding_fraction": 1.5}, "grounding_fraction=1.5 is out of range; use 0 to 1"),
        ({"num_images": 0}, "num_images=0 is out of range"),
        ({"seed": 2**70}, "seed=.* is out of range"),
        ({"layout": None}, "gradient='exact' needs a layout"),
        ({"layout": [LAYOUT] * 3}, "3 layouts for 1 prompts and 1 images"),
        ({"negative_prompt": ["", ""]}, "2 negative prompts for 1 prompts"),
        ({"prompt": []}, "prompt is an empty list"),
        ({"prompt": "a red ball"}, "does not contain the region's phrase 'a blue cube'"),
        ({"latents": torch.zeros(1, 4, 4, 4)}, r"latents has shape \(1, 4, 4, 4\); these images take \(1, 4, 8, 8\)"),
        ({"coefficients": torch.zeros(2, 2, 8, 8)}, r"coefficients has shape .* take \(1, 2, 8, 8\)"),
        ({"coefficients": torch.zeros(1, 2, 8, 8), "gradient": "fixed:0.5"}, "leave coefficients out"),
        ({"layout": Layout([Region("a red ball", box=BOXES[0])] * 6)}, "6 regions; this bundle takes at most 5"),
    ],
)
def test_bad_arguments(pipe: RealCompo, arguments: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"prompt": PROMPT, "layout": LAYOUT, "steps": 3}
    with pytest.raises(RealCompoError, match=message):
        pipe(**(good | arguments))


def test_long_prompt_warns_once(pipe: RealCompo) -> None:
    with pytest.warns(UserWarning, match="'cone left of a ring'") as warned:
        pipe("a red ball and a blue cube and a green cone left of a ring", layout=LAYOUT, steps=1, num_images=2)
    assert len([warning for warning in warned if "cut off" in str(warning.message)]) == 1
