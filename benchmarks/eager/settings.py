"""How the eager RealCompo samples, and where the paper and the released code differ."""

from dataclasses import dataclass
from typing import Any, Literal

from diffusers import DDIMScheduler, PNDMScheduler

from runtime.words import MODELS, Model

SCHEDULERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "plms": (PNDMScheduler, {"skip_prk_steps": True}),
    "ddim": (DDIMScheduler, {}),
}


@dataclass(frozen=True)
class Form:
    """Where the paper and the authors' released code differ.

    Args:
        gradient_from: the models whose attention loss moves the coefficients.
        trial_guidance: whether the trial step fuses guided predictions instead of conditional ones.
        repeats_forwards: predict anew what is known already, and look at maps that are not used. It changes no result:
            it is there to cost what the released code costs.
    """

    gradient_from: tuple[Model, ...] = MODELS
    trial_guidance: bool = False
    repeats_forwards: bool = False


PAPER = Form()
RELEASED_LAYOUT = Form(gradient_from=("spatial",), repeats_forwards=True)


@dataclass(frozen=True)
class Settings:
    """How to sample; the same words as the runtime's."""

    steps: int = 50
    guidance_scale: float = 7.5
    switch_step: int | None = None  # None is 0.4 of the steps
    sampler: Literal["plms", "ddim"] = "plms"
    coefficient_scale: float = 1e6
    update_every: int = 1
    form: Form = PAPER
    control_scale: float = 1.0  # of what ControlNets add

    @property
    def guided(self) -> bool:
        return self.guidance_scale > 1

    @property
    def first_balanced(self) -> int:
        """The first evaluation of both models; those before are the spatial one's alone."""
        return round(0.4 * self.steps) if self.switch_step is None else self.switch_step

    def updates(self, i: int) -> bool:
        """Whether evaluation i moves the coefficients."""
        return i >= self.first_balanced and (i - self.first_balanced) % self.update_every == 0


DEFAULTS = Settings()


def make_scheduler(sampler: str, config: dict[str, Any]) -> Any:
    """diffusers' scheduler of a sampler, with a checkpoint's config."""
    scheduler, options = SCHEDULERS[sampler]
    return scheduler.from_config(config, **options)
