"""How a generation goes: every knob but those of the spatial model's kind, and what they make an evaluation do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from runtime.errors import RealCompoError
from runtime.knobs import Knobs, check_range, knob
from runtime.sampling import SAMPLERS
from runtime.words import MODELS, Model

GRADIENTS = {
    "exact": "the paper's: both models' attention losses after a trial step",
    "surrogate": "the loss of the mixed maps that both models give anyway",
    "none": "coefficients stay as drawn",
    "fixed:W": "a constant weight W of the spatial model",
    "handover": "from switch_step on the text-to-image model alone",
    "text_to_image": "that model alone",
    "spatial": "that model alone",
}


def _check_gradient(name: str, gradient: str) -> None:
    mode, colon, weight = gradient.partition(":")
    if mode == "fixed":
        _check_weight(name, gradient, weight)
    elif colon or mode not in GRADIENTS:
        raise RealCompoError(f"{name}={gradient!r} is unknown; use one of {', '.join(GRADIENTS)}")


def _check_weight(name: str, gradient: str, weight: str) -> None:
    try:
        check_range("the weight of fixed:W", float(weight), 0, 1)
    except ValueError as error:  # RealCompoError is one too
        raise RealCompoError(
            f"{name}={gradient!r}: W is the spatial model's weight, 0 to 1, as in fixed:0.5"
        ) from error


def _check_gradient_from(name: str, models: Sequence[Model]) -> None:
    if not models or len(set(models)) < len(models) or not set(models) <= set(MODELS):
        raise RealCompoError(f"{name}={tuple(models)!r} does not name models; use {MODELS}, or one of them in a tuple")


def _check_interval(name: str, interval: tuple[float, float]) -> None:
    if len(interval) != 2 or interval[0] > interval[1]:
        raise RealCompoError(f"{name}={tuple(interval)!r} is no interval; give its start and its end, such as 0.1 0.8")


@dataclass(frozen=True)
class Work:
    """What an evaluation does: all about it that is no number. Evaluations of the same work make the same calls."""

    models: tuple[Model, ...]
    guided: bool  # whether there are unconditional rows
    gradient: Literal["exact", "surrogate"] | None  # what moves the coefficients; None: they stay
    gradient_from: tuple[Model, ...] = ()  # of `exact` alone, as is the next
    trial_guidance: bool = False


@dataclass(frozen=True, kw_only=True)
class Options(Knobs):
    """What a caller may choose of any bundle. An evaluation is a step of the sampler's table; PLMS has one more than
    denoising steps."""

    steps: int = knob(50, "Number of denoising steps.", low=1)
    seed: int = knob(0, "Seed of the starting noise and the starting coefficients.", low=0)
    sampler: str = knob("plms", f"Sampler: {', '.join(SAMPLERS)}.")
    gradient: str = knob(
        "exact",
        f"What moves the fusing coefficients: {'; '.join(f'{name}, {what}' for name, what in GRADIENTS.items())}.",
        check=_check_gradient,
    )
    guidance_scale: float = knob(7.5, "Strength of classifier-free guidance; 1 or less turns it off.", low=0)
    guidance_interval: tuple[float, float] = knob(
        (0.0, 1.0),
        "Shares of the evaluations from which to which there is guidance; outside, half of the rows are not computed.",
        low=0,
        high=1,
        check=_check_interval,
    )
    switch_step: int | None = knob(
        None,
        "Number of first evaluations that use the spatial model alone.",
        low=0,
        unset="0.4 of the steps with GLIGEN, 0 with ControlNets",
    )
    coefficient_scale: float = knob(1e6, "Step size of the coefficients' updates.", low=0)
    update_every: int = knob(1, "Number of evaluations from one update of the coefficients to the next.", low=1)
    gradient_from: Sequence[Model] = knob(
        MODELS, "Models whose attention losses exact adds up: text_to_image, spatial.", check=_check_gradient_from
    )
    trial_guidance: bool = knob(False, "Apply guidance in exact's trial step, as the authors' keypoint code does.")

    @property
    def guided(self) -> bool:
        """Whether some evaluations have unconditional rows: a scale of 1 or less does without, as in diffusers."""
        return self.guidance_scale > 1

    @property
    def needs_layout(self) -> bool:
        return self.gradient != "text_to_image"

    @property
    def fixed_weight(self) -> float | None:
        """The spatial model's constant weight, if it has one."""
        mode, _, weight = self.gradient.partition(":")
        return float(weight) if mode == "fixed" else None

    def works(self, evaluations: int, switch_step: int) -> list[Work]:
        """What each evaluation does.

        Args:
            switch_step: where `self.switch_step` does not say.

        Raises:
            RealCompoError: the switch lies after the last evaluation.
        """
        switch = switch_step if self.switch_step is None else self.switch_step
        check_range("switch_step", switch, 0, evaluations)
        start, end = (share * evaluations for share in self.guidance_interval)
        return [self._work(i, switch, self.guided and start <= i < end) for i in range(evaluations)]

    def _work(self, i: int, switch: int, guided: bool) -> Work:
        updates = i >= switch and (i - switch) % self.update_every == 0
        if updates and self.gradient == "exact":
            return Work(self._models(i, switch), guided, "exact", tuple(self.gradient_from), self.trial_guidance)
        gradient: Literal["surrogate"] | None = "surrogate" if updates and self.gradient == "surrogate" else None
        return Work(self._models(i, switch), guided, gradient)

    def _models(self, i: int, switch: int) -> tuple[Model, ...]:
        """The spatial model alone before the switch, then those that have a weight; in a model's own mode it alone."""
        if self.gradient == "text_to_image":
            return ("text_to_image",)
        if self.gradient == "spatial" or i < switch or self.fixed_weight == 1:
            return ("spatial",)
        return ("text_to_image",) if self.gradient == "handover" or self.fixed_weight == 0 else MODELS
