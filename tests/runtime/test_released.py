"""The released form against the authors' own sampler, written out here over the same networks in plain PyTorch.

Source: github.com/YangLing0818/RealCompo at fd350a3, `plms_sampling` of ldm/models/diffusion/plms.py and `get_loss` of
utils/loss_function.py.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from runtime import RealCompo, RealCompoError
from runtime.denoising.numbers import make_numbers
from runtime.options import FORMS, Options
from runtime.sampling import make_table
from runtime.words import MODELS
from tests.runtime.bundles import LATENT, MAP, SCHEDULER
from tests.runtime.test_pipeline import BOXES, LAYOUT, PROMPT, SCALE, SEED, Oracle, first_latents
from tests.runtime.test_pipeline import oracle as oracle  # the fixture

STEPS, T0 = 10, 4
RATE = 1e4  # of a pixel, as the authors take it
PER_AREA = RATE * 64**2 / LATENT**2
TOKENS = (3, 7)  # the nouns in the prompt, from 1
OPTIONS: dict[str, Any] = {
    "layout": LAYOUT,
    "steps": STEPS,
    "seed": SEED,
    "guidance_scale": SCALE,
    "coefficient_scale": PER_AREA,
    "trace": True,
}


class Authors:
    """Their sampler with a batch of one."""

    def __init__(self, oracle: Oracle) -> None:
        self.oracle = oracle
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        alphas, timesteps = (1 - betas).cumprod(0), np.arange(0, 1000, 1000 // STEPS) + 1
        self.time_range = np.flip(timesteps).tolist()
        self.alphas, self.alphas_prev = alphas[timesteps], torch.cat([alphas[:1], alphas[timesteps[:-1]]])

    def sample(self) -> tuple[Tensor, list[Tensor], int]:
        """The final latents, both influences after each step, text first, and how often a model is evaluated."""
        x, self.evaluations = first_latents(), 0
        with torch.random.fork_rng():
            torch.manual_seed(31)
            layout, text = torch.randn(1, 1, LATENT, LATENT), torch.randn(1, 1, LATENT, LATENT)
        scale_range, old_eps, seen = np.linspace(1.0, 0.5, STEPS), [], []
        for i, t in enumerate(self.time_range):
            t_next, index = self.time_range[min(i + 1, STEPS - 1)], STEPS - i - 1
            layout, text = (influence.clone().requires_grad_() for influence in (layout, text))
            e_t = self.compose([self.epsilon(model, x, t, 1.0) for model in MODELS], layout, text)
            loss = self.loss(self.previous(x, e_t, index), t)
            step_size = RATE * np.sqrt(scale_range[i])
            layout, text = (
                (influence - step_size * torch.autograd.grad(loss, influence, retain_graph=True)[0]).detach()
                for influence in (layout, text)
            )
            seen.append(torch.cat([text, layout], 1))
            x, e_t = self.p_sample_plms(x, i, t, t_next, index, layout, text, old_eps)
            old_eps = [*old_eps, e_t][-3:]
        return x, seen, self.evaluations

    def p_sample_plms(
        self, x: Tensor, i: int, t: int, t_next: int, index: int, layout: Tensor, text: Tensor, old: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        e_t = self.output(x, i, t, layout, text)
        if len(old) == 0:
            e_t_next = self.output(self.previous(x, e_t, index), i, t_next, layout, text)
            e_t_prime = (e_t + e_t_next) / 2
        elif len(old) == 1:
            e_t_prime = (3 * e_t - old[-1]) / 2
        elif len(old) == 2:
            e_t_prime = (23 * e_t - 16 * old[-1] + 5 * old[-2]) / 12
        else:
            e_t_prime = (55 * e_t - 59 * old[-1] + 37 * old[-2] - 9 * old[-3]) / 24
        return self.previous(x, e_t_prime, index), e_t

    def output(self, x: Tensor, i: int, t: int, layout: Tensor, text: Tensor) -> Tensor:
        both = [self.epsilon(model, x, t, SCALE) for model in MODELS]
        return both[1] if i < T0 else self.compose(both, layout, text)

    def epsilon(self, model: Any, x: Tensor, t: int, scale: float) -> Tensor:
        self.evaluations += 2 if scale > 1 else 1
        with torch.no_grad():
            return self.oracle.noise(model, x, t, scale=scale)

    def compose(self, both: list[Tensor], layout: Tensor, text: Tensor) -> Tensor:
        weights = torch.cat([layout, text], 1).softmax(1)
        return weights[:, :1] * both[1] + weights[:, 1:] * both[0]

    def previous(self, x: Tensor, e_t: Tensor, index: int) -> Tensor:
        a_t, a_prev = self.alphas[index].float(), self.alphas_prev[index].float()
        return a_prev.sqrt() * (x - (1 - a_t).sqrt() * e_t) / a_t.sqrt() + (1 - a_prev).sqrt() * e_t

    def loss(self, x: Tensor, t: int) -> Tensor:
        """Both models' attention; the text-to-image model's scores are detached."""
        self.evaluations += 2
        hidden, time = self.oracle.text(PROMPT)[0], torch.tensor([t])
        layout = self.oracle.nets["spatial"](x, time, hidden, self.oracle.objects(True), torch.ones(1))[1]
        text = self.oracle.nets["text_to_image"](x, time, hidden)[1].detach()
        loss = torch.zeros(())
        for attention in (layout, text):
            attention = attention[0].reshape(MAP, MAP, -1)
            for (x1, y1, x2, y2), location in zip(BOXES, TOKENS, strict=True):
                inside = attention[int(MAP * y1) : int(MAP * y2), int(MAP * x1) : int(MAP * x2), location].sum()
                loss = loss + 1 - inside / attention[:, :, location].sum()
        return loss


@pytest.fixture(scope="module")
def authors(oracle: Oracle) -> tuple[Tensor, list[Tensor], int]:
    return Authors(oracle).sample()


def error(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def test_released_form_is_the_authors_sampler(pipe: RealCompo, authors: tuple[Tensor, list[Tensor], int]) -> None:
    latents, influences, _ = authors
    found = pipe(PROMPT, form="released", **OPTIONS)
    assert error(found.latents, latents) < 1e-4
    assert len(found.trace) == STEPS + 1  # the first step looks twice
    for step, influence in zip([found.trace[0], *found.trace[2:]], influences, strict=True):
        assert error(step.coefficients, influence) < 1e-4
    assert float((influences[-1] - influences[0]).abs().max()) > 0.1


def test_it_takes_fewer_evaluations(pipe: RealCompo, authors: tuple[Tensor, list[Tensor], int]) -> None:
    """Theirs: 8 a step and 4 more in the first. Ours: 4 and a gradient a step, and 2 more in the first."""
    rows = pipe(PROMPT, form="released", **OPTIONS).stats.rows
    assert authors[2] == 8 * STEPS + 4
    assert rows["text_to_image"] + rows["spatial"] == 4 * STEPS + 2
    assert (rows["spatial_gradient"], rows["text_to_image_gradient"]) == (STEPS, 0)


@pytest.mark.parametrize(
    "given",
    [
        *({name: value} for name, value in FORMS["paper"].items() if name != "coefficient_seed"),
        {"coefficient_seed": 32},
        {"coefficients": "equal"},
        {"trial_guidance": True},
        {"switch_step": T0 + 1},
    ],
    ids=str,
)
def test_every_part_of_it_counts_and_can_be_chosen_otherwise(
    pipe: RealCompo, authors: tuple[Tensor, list[Tensor], int], given: dict[str, Any]
) -> None:
    found = pipe(PROMPT, form="released", **(OPTIONS | given))
    assert error(found.latents, authors[0]) > 1e-4
    assert error(found.trace[-1].coefficients, authors[1][-1]) > 1e-3 or "switch_step" in given


def test_its_parts_one_by_one_are_the_form(pipe: RealCompo) -> None:
    whole = pipe(PROMPT, form="released", **OPTIONS)
    parts = pipe(PROMPT, **OPTIONS, **FORMS["released"])
    assert torch.equal(whole.latents, parts.latents)
    none_given = pipe(PROMPT, form="released", **OPTIONS, **dict.fromkeys(FORMS["released"]))
    assert torch.equal(whole.latents, none_given.latents)


def test_the_paper_is_the_default() -> None:
    assert Options() == Options(form="paper", **FORMS["paper"])
    assert Options().trial_guidance is Options(form="released").trial_guidance is False


def test_all_images_start_from_one_pair_of_maps(pipe: RealCompo) -> None:
    options = OPTIONS | {"coefficient_scale": 0.0, "num_images": 2}
    with torch.random.fork_rng():
        torch.manual_seed(31)
        spatial, text = torch.randn(1, 1, LATENT, LATENT), torch.randn(1, 1, LATENT, LATENT)
    for seed in (1, 2):
        start = pipe(PROMPT, form="released", **(options | {"seed": seed})).trace[0].coefficients
        assert torch.equal(start, torch.cat([text, spatial], 1).expand(2, -1, -1, -1))
    own = pipe(PROMPT, **options).trace[0].coefficients
    assert not torch.equal(own[0], own[1])


def test_counting_steps() -> None:
    """PLMS's second row goes on with its first step: it does not update, and the switch and the scale do not see it."""
    table = make_table("plms", 5, SCHEDULER)
    assert table.denoising_steps == [0, 0, 1, 2, 3, 4]
    works = Options(form="released", steps=5, switch_step=2).works(table, 0)
    assert [work.models for work in works] == [("spatial",)] * 3 + [MODELS] * 3
    assert [work.gradient for work in works] == ["exact", None, *["exact"] * 4]
    assert [work.asked for work in works] == [MODELS, ("spatial",), *[MODELS] * 4]
    rhos = 1e6 * np.sqrt(np.linspace(1, 0.5, 5))[[0, 0, 1, 2, 3, 4]]
    numbers = make_numbers(table, Options(form="released", steps=5), [(1.0,)] * 6, 64 * 64, torch.device("cpu"))
    np.testing.assert_allclose(numbers.step_size, rhos, rtol=1e-6)


def test_counting_evaluations() -> None:
    table = make_table("plms", 5, SCHEDULER)
    works = Options(steps=5, switch_step=2, update_every=3).works(table, 0)
    assert [work.models for work in works] == [("spatial",)] * 2 + [MODELS] * 4
    assert [work.gradient for work in works] == [None, None, "exact", None, None, "exact"]
    for sampler in ("ddim", "dpm++2m"):  # which look once a step
        table = make_table(sampler, 5, SCHEDULER)
        assert Options(counting="steps").works(table, 2) == Options(counting="evaluations").works(table, 2)


@pytest.mark.parametrize("gradient", ["exact", "surrogate"])
def test_updates_from_the_start_leave_the_first_steps_to_the_spatial_model(pipe: RealCompo, gradient: str) -> None:
    options = OPTIONS | {"sampler": "ddim", "coefficient_scale": 1e6}
    seen: dict[str, list[Tensor]] = {}
    for mode in (gradient, "spatial"):
        add = seen.setdefault(mode, []).append
        pipe(PROMPT, **options, gradient=mode, update_from="start", callback=lambda i, n, x, c, add=add: add(x))
    for i, (found, alone) in enumerate(zip(seen[gradient], seen["spatial"], strict=True)):
        assert (error(found, alone) < 1e-5) is (i < T0)
    trace = pipe(PROMPT, **options, gradient=gradient, update_from="start").trace
    assert all(step.gradient is not None for step in trace)
    assert all(bool((step.spatial_weight == 1).all()) is (i < T0) for i, step in enumerate(trace))
    assert not any(torch.equal(before.coefficients, after.coefficients) for before, after in pairwise(trace))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"form": "draft"}, "form='draft' is unknown; use paper or released"),
        ({"update_from": "end"}, "update_from='end' is unknown; use switch or start"),
        ({"counting": "rows"}, "counting='rows' is unknown; use evaluations or steps"),
        ({"coefficient_seed": -1}, "coefficient_seed=-1 is out of range; use 0 or more"),
        ({"coefficient_seed": 2**70}, "coefficient_seed=.* is out of range"),
        ({"form": "released", "switch_step": STEPS + 1}, "switch_step=11 is out of range; use 0 to 10"),
    ],
)
def test_bad_options(pipe: RealCompo, given: dict[str, Any], message: str) -> None:
    with pytest.raises(RealCompoError, match=message):
        pipe(PROMPT, **(OPTIONS | given))
