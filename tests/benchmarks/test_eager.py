"""The eager RealCompo against diffusers' pipelines, finite differences, and a loss written out here."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, PNDMScheduler
from torch import Tensor

from benchmarks.eager.conditions import Regions
from benchmarks.eager.maps import find_map_layers, recording
from benchmarks.eager.method import attention_loss, ddim_step
from benchmarks.eager.realcompo import EagerRealCompo, Result, Run
from benchmarks.eager.settings import PAPER, RELEASED_LAYOUT, SCHEDULERS, Form, Settings
from benchmarks.eager.stock import stock_spatial, stock_text_to_image
from export.checkpoints.folders import ROOT
from export.graphs.attention import find_map_layers as exported_map_layers
from runtime import Layout, Region
from runtime.words import MODELS

PAIR = ROOT / "engines" / "tabletop"
PROMPT = "a red ball and a blue cube"
PHRASES = ["a red ball", "a blue cube"]
BOXES = [(0.08, 0.50, 0.46, 0.88), (0.56, 0.12, 0.94, 0.50)]
LAYOUT = Layout([Region(phrase, box=box) for phrase, box in zip(PHRASES, BOXES, strict=True)])
SETTINGS = Settings(steps=3, switch_step=1, guidance_scale=2.5)
ONCE = replace(SETTINGS, steps=1, switch_step=0)  # one evaluation, which updates


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Models this small only wait for the other threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def single() -> EagerRealCompo:
    return EagerRealCompo.load(PAIR / "text_to_image", PAIR / "spatial")


@pytest.fixture(scope="module")
def double() -> EagerRealCompo:
    return EagerRealCompo.load(PAIR / "text_to_image", PAIR / "spatial", dtype=torch.float64)


def draw(channels: int, seed: int, count: int = 1) -> Tensor:
    return torch.randn(count, channels, 16, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def run_one(eager: EagerRealCompo, settings: Settings = SETTINGS) -> Result:
    return eager([PROMPT], [LAYOUT], draw(4, 0), draw(2, 1), settings)


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).norm() / theirs.norm()).item()


@pytest.mark.parametrize("sampler", ["plms", "ddim"])
@pytest.mark.parametrize("model", MODELS)
def test_a_model_of_all_weight_is_its_stock_pipeline(single: EagerRealCompo, model: str, sampler: str) -> None:
    sign = 1 if model == "text_to_image" else -1
    coefficients = torch.tensor([40.0, -40.0])[None, :, None, None].expand(1, 2, 16, 16) * sign
    latents = draw(4, 0).float()
    settings = Settings(steps=6, switch_step=0, sampler=sampler, form=replace(PAPER, gradient_from=("spatial",)))
    ours = single([PROMPT], [LAYOUT], latents, coefficients, settings, ["a green cone"])
    pair, place = (PAIR / "text_to_image", PAIR / "spatial"), {}
    stock = stock_text_to_image(pair[0])
    if model == "spatial":
        boxes = [list(box) for box in BOXES]
        place = {"gligen_phrases": PHRASES, "gligen_boxes": boxes, "gligen_scheduled_sampling_beta": 1.0}
        stock = stock_spatial(*pair)
    scheduler, options = SCHEDULERS[sampler]
    stock.scheduler = scheduler.from_config(stock.scheduler.config, **options)
    theirs = stock(
        PROMPT, negative_prompt="a green cone", num_inference_steps=6, latents=latents, output_type="latent", **place
    )
    assert relative_error(ours.latents, theirs.images) < 1e-4


def test_images_are_the_stock_pipeline_s(single: EagerRealCompo) -> None:
    stock = stock_text_to_image(PAIR / "text_to_image")
    latents = draw(4, 0).float()
    with torch.no_grad():
        decoded = stock.vae.decode(latents / stock.vae.config.scaling_factor).sample
    theirs = stock.image_processor.postprocess(decoded, output_type="pil")
    np.testing.assert_array_equal(np.asarray(single.decode(latents)[0]), np.asarray(theirs[0]))


def test_map_layers_are_those_at_16x16(single: EagerRealCompo) -> None:
    ends = "attentions.{}.transformer_blocks.0.attn2"
    expected = ["down_blocks.0." + ends.format(0), *("up_blocks.2." + ends.format(i) for i in range(2))]
    assert single.map_size == (16, 16)
    assert list(single.map_layers) == expected


def test_map_layers_follow_the_latents(single: EagerRealCompo) -> None:
    """The exporter finds them from the blocks' names, the baseline by looking."""
    unet = single.unets["text_to_image"]
    for size in ((16, 16), (32, 32), (16, 24), (48, 16)):
        assert find_map_layers(unet, size) == exported_map_layers(unet, size)


def test_regions_of_the_prompt(single: EagerRealCompo) -> None:
    layout = Layout([Region("red ball", box=(0.0, 0.5, 0.25, 1.0)), Region("cube", box=(0.5, 0.0, 1.0, 0.25))])
    regions = single.prepare([PROMPT, "a cube"], [layout, Layout(layout.regions[1:])], SETTINGS).regions
    masks = regions.masks.unflatten(2, (16, 16))
    assert masks[0, 0, 8:, :4].all() and masks[0, 1, :4, 8:].all() and masks.sum() == 3 * 32
    words = [[tokens.nonzero().flatten().tolist() for tokens in image] for image in regions.tokens]
    assert words == [[[2, 3], [7]], [[2], []]]  # 0 is the start of the text
    assert regions.weights.tolist() == [[1, 1], [1, 0]]


@contextmanager
def capturing(modules: dict[str, torch.nn.Module]) -> Iterator[dict[str, Tensor]]:
    """What the modules return."""
    seen: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output, name=name: seen.update({name: output}))
        for name, module in modules.items()
    ]
    yield seen
    for hook in hooks:
        hook.remove()


def stock_maps(eager: EagerRealCompo, model: str, latents: Tensor, timestep: int, run: Run) -> Tensor:
    """The attention maps (B,P,L), from the projections that diffusers' own attention makes."""
    layers = {layer: eager.unets[model].get_submodule(layer) for layer in eager.map_layers}
    queries = {f"{layer} q": attention.to_q for layer, attention in layers.items()}
    keys = {f"{layer} k": attention.to_k for layer, attention in layers.items()}
    with capturing(queries | keys) as seen:
        eager._run_unet(run, model, latents, timestep, run.conditional)
    maps = []
    for layer, attention in layers.items():
        query, key = (seen[f"{layer} {end}"].chunk(attention.heads, dim=-1) for end in "qk")
        for q, k in zip(query, key, strict=True):
            maps.append((q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1))
    return torch.stack(maps).mean(0)


def summed_loss(maps: Tensor, regions: Regions) -> Tensor:
    """The attention loss (B,), region by region."""
    losses = []
    for image in range(len(maps)):
        loss = torch.zeros((), dtype=maps.dtype)
        for r in range(int(regions.weights[image].sum())):
            attention = maps[image][:, regions.tokens[image, r].bool()].mean(1)
            loss = loss + 1 - (regions.masks[image, r] * attention).sum() / attention.sum()
        losses.append(loss)
    return torch.stack(losses)


def plain_loss(
    eager: EagerRealCompo, run: Run, outputs: Sequence[Tensor], latents: Tensor, coefficients: Tensor, timestep: int
) -> Tensor:
    """Steps 2 to 4 for the models in `gradient_from`, with nothing of the recorder, the loss or the trial step."""
    share = (coefficients[:, :1] - coefficients[:, 1:]).sigmoid()
    scheduler = DDIMScheduler.from_config(run.scheduler.config, set_alpha_to_one=False)
    scheduler.set_timesteps(run.settings.steps)
    trial = scheduler.step(share * outputs[0] + (1 - share) * outputs[1], timestep, latents).prev_sample
    maps = [stock_maps(eager, model, trial, timestep, run) for model in run.settings.form.gradient_from]
    return torch.stack([summed_loss(each, run.regions) for each in maps]).sum(0)


@pytest.mark.parametrize(
    "form", [PAPER, RELEASED_LAYOUT, Form(trial_guidance=True)], ids=["paper", "released", "guided"]
)
@torch.no_grad()
def test_gradient_is_that_of_finite_differences(double: EagerRealCompo, form: Form) -> None:
    settings = replace(SETTINGS, form=form, coefficient_scale=1.0)  # far from where the softmax saturates
    run = double.prepare([PROMPT], [LAYOUT], settings)
    for evaluation in (run_one(double, settings).evaluations[i] for i in (2, 3)):  # the last trial ends below 0
        predictions = double._predict_all(run, MODELS, evaluation.latents, evaluation.timestep)
        outputs = [each.guided if form.trial_guidance else each.conditional for each in predictions]

        def loss(coefficients: Tensor, outputs=outputs, evaluation=evaluation) -> Tensor:
            return plain_loss(double, run, outputs, evaluation.latents, coefficients, evaluation.timestep)

        start = evaluation.coefficients_before
        torch.testing.assert_close(evaluation.loss, loss(start), rtol=1e-6, atol=0)
        for seed in (5, 6):
            direction = evaluation.gradient.sign() * draw(2, seed).abs()  # so that nothing cancels
            change = 1e-4 * direction
            slope = (loss(start + change) - loss(start - change)) / 2e-4
            torch.testing.assert_close((evaluation.gradient * direction).sum()[None], slope, rtol=1e-5, atol=0)


@pytest.mark.parametrize("model", MODELS)
def test_recording_sees_the_stock_attention_and_changes_nothing(double: EagerRealCompo, model: str) -> None:
    run = double.prepare([PROMPT], [LAYOUT], SETTINGS)
    unet, latents = double.unets[model], draw(4, 2)
    before = unet.attn_processors
    with torch.no_grad():
        plain = double._run_unet(run, model, latents, 500, run.conditional)
        with recording(unet, double.map_layers):
            recorded = double._run_unet(run, model, latents, 500, run.conditional)
        maps, expected = double._see(run, model, latents, 500), stock_maps(double, model, latents, 500, run)
    assert unet.attn_processors == before
    torch.testing.assert_close(recorded, plain)
    torch.testing.assert_close(maps, expected)


def test_attention_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(2, 12, 5, generator=generator).softmax(-1)
    masks, tokens = torch.rand(2, 2, 12, generator=generator), torch.zeros(2, 2, 5)
    tokens[0, 0, 1] = tokens[0, 1, 2:4] = tokens[1, 0, 4] = 1
    regions = Regions(masks, tokens, torch.tensor([[1.0, 1.0], [1.0, 0.0]]))
    torch.testing.assert_close(attention_loss(maps, regions), summed_loss(maps, regions))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("at_one", [True, False])
def test_trial_step_is_diffusers_ddim(prediction_type: str, at_one: bool) -> None:
    config = {"prediction_type": prediction_type, "set_alpha_to_one": at_one, "clip_sample": False, "steps_offset": 1}
    oracle = DDIMScheduler.from_config(config)
    latents, output = draw(4, 0), draw(4, 1)
    oracle.set_timesteps(7)
    for scheduler in (oracle, PNDMScheduler.from_config(config, skip_prk_steps=True)):
        scheduler.set_timesteps(7)
        for timestep in scheduler.timesteps.tolist():
            expected = oracle.step(output, timestep, latents).prev_sample
            assert relative_error(ddim_step(scheduler, output, timestep, latents), expected) < 1e-5


def test_both_models_gradients_add_up(double: EagerRealCompo) -> None:
    both, text, spatial = (
        run_one(double, replace(ONCE, form=Form(gradient_from=models))).evaluations[0]
        for models in (MODELS, MODELS[:1], MODELS[1:])
    )
    torch.testing.assert_close(both.gradient, text.gradient + spatial.gradient, rtol=1e-6, atol=1e-16)
    torch.testing.assert_close(both.loss, text.loss + spatial.loss)
    assert relative_error(text.gradient, spatial.gradient) > 0.1


def test_images_of_a_batch_do_not_mix(double: EagerRealCompo) -> None:
    prompts, layouts = [PROMPT, "a green ring"], [LAYOUT, Layout([Region("green ring", box=(0.1, 0.1, 0.4, 0.5))])]
    latents, coefficients = draw(4, 0, count=2), draw(2, 1, count=2)
    together = double(prompts, layouts, latents, coefficients, ONCE)
    for b in range(2):
        one = slice(b, b + 1)
        alone = double(prompts[one], layouts[one], latents[one], coefficients[one], ONCE)
        assert relative_error(together.coefficients[one], alone.coefficients) < 1e-9
        assert relative_error(together.latents[one], alone.latents) < 1e-9


@contextmanager
def counting_rows(eager: EagerRealCompo) -> Iterator[list[tuple[str, int]]]:
    """Model and rows of each call of a UNet."""
    calls: list[tuple[str, int]] = []
    hooks = [
        unet.register_forward_pre_hook(lambda _unet, inputs, model=model: calls.append((model, len(inputs[0]))))
        for model, unet in eager.unets.items()
    ]
    yield calls
    for hook in hooks:
        hook.remove()


ALONE, TOGETHER = [("spatial", 2)], [("text_to_image", 2), ("spatial", 2)]
TRIED = [("text_to_image", 1), ("spatial", 1)]


@pytest.mark.parametrize(
    ("form", "update"),
    [
        (PAPER, TOGETHER + TRIED),  # 6 rows
        (Form(gradient_from=("spatial",), repeats_forwards=True), TRIED + TRIED + TOGETHER),  # 8
        (Form(gradient_from=("spatial",)), TOGETHER + TRIED[1:]),  # 5
        (Form(trial_guidance=True), TOGETHER + TRIED),
        (Form(trial_guidance=True, repeats_forwards=True), TOGETHER + TRIED + TOGETHER),
    ],
)
def test_rows(single: EagerRealCompo, form: Form, update: list[tuple[str, int]]) -> None:
    """3 steps of PLMS: the spatial model alone, an update, none, an update."""
    with counting_rows(single) as calls:
        run_one(single, replace(SETTINGS, form=form, update_every=2))
    assert calls == (TOGETHER if form.repeats_forwards else ALONE) + update + TOGETHER + update


@pytest.mark.parametrize("switch", [0, 2, 3])
def test_rows_of_the_released_code(single: EagerRealCompo, switch: int) -> None:
    """8 forwards at each of 3 steps, whoever draws, and 4 more in the first, which looks twice and updates once."""
    with counting_rows(single) as calls:
        result = run_one(single, replace(SETTINGS, switch_step=switch, form=RELEASED_LAYOUT))
    step = TRIED + TRIED + TOGETHER
    assert calls == step + TOGETHER + step + step
    assert [evaluation.gradient is not None for evaluation in result.evaluations] == [True, False, True, True]


def test_no_unconditional_rows_without_guidance(single: EagerRealCompo) -> None:
    with counting_rows(single) as calls:
        run_one(single, replace(ONCE, guidance_scale=1.0))
    assert calls == TRIED + TRIED


def test_repeated_forwards_change_no_result(double: EagerRealCompo) -> None:
    settings = replace(SETTINGS, sampler="ddim")
    lean, released = (
        run_one(double, replace(settings, form=replace(RELEASED_LAYOUT, repeats_forwards=repeats)))
        for repeats in (False, True)
    )
    assert relative_error(lean.latents, released.latents) < 1e-9
    assert relative_error(lean.coefficients, released.coefficients) < 1e-9
    assert (
        relative_error(run_one(double, settings).coefficients, released.coefficients) > 1e-3
    )  # which the paper's form does


def test_coefficients_move_when_they_should(double: EagerRealCompo) -> None:
    settings = replace(SETTINGS, steps=5, sampler="ddim", update_every=2, coefficient_scale=20.0)
    result = run_one(double, settings)
    rates = 20.0 * np.sqrt(np.linspace(1.0, 0.5, 5)) * 16 * 16 / 64**2  # per area
    coefficients = draw(2, 1)
    for i, evaluation in enumerate(result.evaluations):
        assert torch.equal(evaluation.coefficients_before, coefficients)
        if i in (1, 3):
            assert evaluation.gradient.norm() > 0 and evaluation.loss.shape == (1,)
            coefficients = coefficients - rates[i] * evaluation.gradient
        else:
            assert evaluation.gradient is None and evaluation.loss is None
        torch.testing.assert_close(evaluation.coefficients, coefficients)
        coefficients = evaluation.coefficients
    assert torch.equal(result.coefficients, coefficients)


def test_released_coefficients_move_once_a_step_from_the_first_on(double: EagerRealCompo) -> None:
    """Of 4 steps of PLMS, 2 of them the spatial model's alone; the second evaluation goes on with the first step."""
    settings = replace(SETTINGS, steps=4, switch_step=2, form=RELEASED_LAYOUT, coefficient_scale=5e3)
    released, alone = (
        double([PROMPT], [LAYOUT], draw(4, 0), coefficients, replace(settings, switch_step=switch))
        for switch, coefficients in ((2, None), (4, None))
    )
    with torch.random.fork_rng():
        torch.manual_seed(31)
        spatial, text = torch.randn(1, 1, 16, 16), torch.randn(1, 1, 16, 16)
    coefficients = torch.cat([text, spatial], 1).double()
    rates = 5e3 * np.sqrt(np.linspace(1.0, 0.5, 4))[[0, 0, 1, 2, 3]] * 16 * 16 / 64**2
    for i, evaluation in enumerate(released.evaluations):
        assert torch.equal(evaluation.coefficients_before, coefficients)
        if i != 1:
            assert evaluation.gradient is not None
            coefficients = coefficients - rates[i] * evaluation.gradient
        torch.testing.assert_close(evaluation.coefficients, coefficients)
        coefficients = evaluation.coefficients
        assert torch.equal(evaluation.latents, alone.evaluations[i].latents) is (i <= 3)  # 3 evaluations drew them
    assert relative_error(coefficients, released.evaluations[0].coefficients_before) > 1e-2


def test_released_regions_are_the_authors_slices_and_one_token(single: EagerRealCompo) -> None:
    regions = single.prepare([PROMPT], [LAYOUT], replace(SETTINGS, form=RELEASED_LAYOUT)).regions
    for mask, (x1, y1, x2, y2) in zip(regions.masks[0].unflatten(1, (16, 16)), BOXES, strict=True):
        wanted = torch.zeros(16, 16)
        wanted[int(16 * y1) : int(16 * y2), int(16 * x1) : int(16 * x2)] = 1
        assert torch.equal(mask, wanted)
    assert [tokens.nonzero().flatten().tolist() for tokens in regions.tokens[0]] == [[3], [7]]  # ball, cube


def test_only_a_form_with_a_seed_draws_coefficients(single: EagerRealCompo) -> None:
    with pytest.raises(ValueError, match="give coefficients"):
        single([PROMPT], [LAYOUT], draw(4, 0), settings=ONCE)


def test_switch_step_defaults_to_two_fifths() -> None:
    assert Settings().first_balanced == 20
    assert Settings(steps=3).first_balanced == 1
    assert Settings(switch_step=0).first_balanced == 0


def test_more_regions_than_slots(single: EagerRealCompo) -> None:
    with pytest.raises(ValueError, match="layout 0 has 31 regions; give 1 to 30"):
        single.prepare([PROMPT], [Layout([LAYOUT.regions[0]] * 31)], SETTINGS)
