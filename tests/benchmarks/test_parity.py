"""The runtime's exact mode against the eager RealCompo, step by step over whole runs of the Tabletop pair."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.eager.realcompo import EagerRealCompo, Result
from benchmarks.eager.settings import PAPER, RELEASED_LAYOUT, Form, Settings
from export.checkpoints.folders import ROOT
from runtime import Layout, RealCompo, Region
from runtime.denoising.evaluation import coefficient_gradient, start_state
from runtime.denoising.loop import Course
from runtime.denoising.models import Conditions
from runtime.output import Output

PAIR = ROOT / "engines" / "tabletop"
PROMPTS = ["a red ball and a blue cube", "a green cone"]
LAYOUTS = [
    Layout([Region("a red ball", box=(0.08, 0.5, 0.46, 0.88)), Region("a blue cube", box=(0.56, 0.12, 0.94, 0.5))]),
    Layout([Region("a green cone", box=(0.3, 0.2, 0.7, 0.8))]),
]
RELEASED = replace(RELEASED_LAYOUT, repeats_forwards=False)  # which change nothing
# At 16 times the paper's scale a first update moves coefficients by 10 and more, and a rounding error grows from step
# to step.
MET = 1e-3  # loss
HARSH = 1.6e7


@pytest.fixture(scope="module")
def eager() -> EagerRealCompo:
    return EagerRealCompo.load(PAIR / "text_to_image", PAIR / "spatial")


def start(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(11)
    return torch.randn(count, 4, 16, 16, generator=generator), torch.randn(count, 2, 16, 16, generator=generator)


def own_start(count: int, form: Form) -> tuple[Tensor, Tensor | None]:
    """The released form starts from coefficients of its own."""
    latents, coefficients = start(count)
    return latents, None if form is RELEASED else coefficients


def run_eager(eager: EagerRealCompo, count: int, settings: Settings) -> Result:
    return eager(PROMPTS[:count], LAYOUTS[:count], *own_start(count, settings.form), settings)


def run_engines(pipe: RealCompo, count: int, settings: Settings, **options: Any) -> tuple[Output, list[Tensor]]:
    """And the latents after each evaluation."""
    latents, coefficients = own_start(count, settings.form)
    form = {"gradient_from": settings.form.gradient_from, "trial_guidance": settings.form.trial_guidance}
    seen: list[Tensor] = []
    output = pipe(
        PROMPTS[:count],
        layout=LAYOUTS[:count],
        latents=latents,
        coefficients=coefficients,
        steps=settings.steps,
        guidance_scale=settings.guidance_scale,
        sampler=settings.sampler,
        coefficient_scale=settings.coefficient_scale,
        trace=True,
        callback=lambda i, total, latents, coefficients: seen.append(latents.clone()),
        **({"form": "released"} if settings.form is RELEASED else form),
        **options,
    )
    return output, seen


def relative_error(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def assert_follows(pipe: RealCompo, eager: EagerRealCompo, count: int, settings: Settings) -> None:
    """Coefficients and latents within 1e-3 after every evaluation, and the coefficients do move."""
    wanted = run_eager(eager, count, settings)
    output, latents = run_engines(pipe, count, settings)
    befores = [evaluation.latents for evaluation in wanted.evaluations[1:]] + [wanted.latents]
    assert len(output.trace) == len(wanted.evaluations) == len(latents)
    for step, after, evaluation, expected in zip(output.trace, latents, wanted.evaluations, befores, strict=True):
        assert step.timestep == evaluation.timestep
        assert relative_error(after, expected) < 1e-3
        assert relative_error(step.coefficients, evaluation.coefficients) < 1e-3
    moved = (output.trace[-1].coefficients - wanted.evaluations[0].coefficients_before).abs()
    assert moved.max() > 1


@pytest.mark.parametrize("form", [PAPER, RELEASED], ids=["paper", "released"])
def test_exact_follows_the_eager_run_over_50_plms_steps(tabletop: RealCompo, eager: EagerRealCompo, form: Form) -> None:
    """At the paper's scale."""
    assert_follows(tabletop, eager, 1, Settings(form=form))


def test_exact_follows_with_a_guided_trial_in_a_batch(tabletop: RealCompo, eager: EagerRealCompo) -> None:
    form = Form(trial_guidance=True)
    assert_follows(tabletop, eager, 2, Settings(10, 2.5, sampler="ddim", form=form))


@pytest.mark.parametrize(("form", "updates"), [(PAPER, 13), (RELEASED, 20)], ids=["paper", "released"])
def test_gradients_at_a_harsh_scale_from_the_eager_runs_own_state(
    tabletop: RealCompo, eager: EagerRealCompo, form: Form, updates: int
) -> None:
    """Every evaluation that updates, fed to the runtime as its state.

    Where a loss is all but met, 1 - inside / total is a small difference of large numbers, and so is its gradient.
    """
    settings = Settings(steps=20, coefficient_scale=HARSH, form=form)
    wanted = run_eager(eager, 1, settings)
    updated = [i for i, evaluation in enumerate(wanted.evaluations) if evaluation.gradient is not None]
    assert len(updated) == updates
    telling = [i for i in updated if wanted.evaluations[i].loss.item() > MET]
    assert len(telling) > updates / 4, [evaluation.loss for evaluation in wanted.evaluations]
    for i in telling:
        evaluation = wanted.evaluations[i]
        gradient = gradient_at(tabletop, i, evaluation.latents, evaluation.coefficients_before, settings)
        assert relative_error(gradient, evaluation.gradient) < 1e-4, i  # type: ignore[arg-type]


def gradient_at(pipe: RealCompo, i: int, latents: Tensor, coefficients: Tensor, settings: Settings) -> Tensor:
    """What the runtime's evaluation i makes of a state that is given to it in the middle of a run."""

    class Stop(Exception):
        pass

    found: list[Tensor] = []
    run_of = pipe._denoiser.run

    def at_state(course: Course, _: Tensor, __: Tensor, conditions: Conditions, *___: Any) -> Any:
        state = start_state(latents, coefficients, course.numbers.at(i))
        models, work = pipe._denoiser.models(conditions), course.works[i]
        predictions = models.predict(latents, state.numbers, work)
        gradient = coefficient_gradient(models, state, predictions, work, pipe.manifest.maps.resolution)
        assert gradient is not None
        found.append(gradient)
        raise Stop

    pipe._denoiser.run = at_state  # type: ignore[method-assign]
    try:
        run_engines(pipe, 1, settings)
    except Stop:
        return found[0]
    finally:
        pipe._denoiser.run = run_of  # type: ignore[method-assign]
    raise AssertionError("the run did not reach its first step")
