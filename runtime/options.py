"""The knobs of one generation, checked once."""

import math
from dataclasses import dataclass
from typing import Literal

from runtime.errors import RealCompoError

Model = Literal["text_to_image", "spatial"]
BOTH: tuple[Model, ...] = ("text_to_image", "spatial")
GRADIENTS = ("exact", "surrogate", "none", "fixed:W", *BOTH)


@dataclass(frozen=True)
class Kind:
    """Which work an evaluation does: all about it that is no number. Rows of one kind make the same calls."""

    models: tuple[Model, ...]
    guided: bool  # whether there are unconditional rows
    gradient: Literal["exact", "surrogate"] | None  # what moves the coefficients; None: they stay
    gradient_from: tuple[Model, ...] = ()  # of `exact` alone, as is the next
    trial_guidance: bool = False


@dataclass(frozen=True)
class Options:
    """How a run of `rows` evaluations goes; `rows` is the sampler's steps, one more for `plms`."""

    rows: int
    gradient: str
    guidance_scale: float
    switch_step: int
    coefficient_scale: float
    update_every: int
    gradient_from: tuple[Model, ...] = BOTH
    trial_guidance: bool = False

    def __post_init__(self) -> None:
        _check_gradient(self.gradient)
        check_range("guidance_scale", self.guidance_scale, 0, math.inf)
        check_range("switch_step", self.switch_step, 0, self.rows)
        check_range("coefficient_scale", self.coefficient_scale, 0, math.inf)
        check_count("update_every", self.update_every)
        _check_gradient_from(self.gradient_from)

    @property
    def guided(self) -> bool:
        """Whether there are unconditional rows: a scale of 1 or less does without, as in diffusers."""
        return self.guidance_scale > 1

    @property
    def needs_layout(self) -> bool:
        return self.gradient != "text_to_image"

    @property
    def fixed_weight(self) -> float | None:
        """The spatial model's constant weight, if it has one."""
        kind, _, weight = self.gradient.partition(":")
        return float(weight) if kind == "fixed" else None

    def kind(self, i: int) -> Kind:
        """Which work row i is."""
        models, since = self._models(i), i - self.switch_step
        if since >= 0 and since % self.update_every == 0:
            if self.gradient == "exact":
                return Kind(models, self.guided, "exact", self.gradient_from, self.trial_guidance)
            if self.gradient == "surrogate":
                return Kind(models, self.guided, "surrogate")
        return Kind(models, self.guided, None)

    def _models(self, i: int) -> tuple[Model, ...]:
        """The spatial model alone before `switch_step`, and in its own mode."""
        if self.gradient == "text_to_image":
            return ("text_to_image",)
        return ("spatial",) if self.gradient == "spatial" or i < self.switch_step else BOTH


def check_count(name: str, value: int) -> None:
    if value < 1:
        raise RealCompoError(f"{name}={value} is out of range; use 1 or more")


def check_range(name: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        limit = f"{low} to {high}" if math.isfinite(high) else f"{low} or more"
        raise RealCompoError(f"{name}={value} is out of range; use {limit}")


def _check_gradient(gradient: str) -> None:
    kind, colon, weight = gradient.partition(":")
    if kind == "fixed":
        _check_weight(gradient, weight)
    elif colon or kind not in GRADIENTS:
        raise RealCompoError(f"gradient={gradient!r} is unknown; use one of {', '.join(GRADIENTS)}")


def _check_gradient_from(models: tuple[Model, ...]) -> None:
    if not models or len(set(models)) < len(models) or not set(models) <= set(BOTH):
        raise RealCompoError(f"gradient_from={models!r} does not name models; use {BOTH}, or one of them in a tuple")


def _check_weight(gradient: str, weight: str) -> None:
    try:
        check_range("the weight of fixed:W", float(weight), 0, 1)
    except ValueError as error:  # RealCompoError is one too
        raise RealCompoError(
            f"gradient={gradient!r}: W is the spatial model's weight, 0 to 1, as in fixed:0.5"
        ) from error
