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
        update_from: whether coefficients move from the first step on, or from the switch.
        counts_steps: PLMS's first two evaluations are one step, with one update.
        hard_regions: a region is the cells of attention maps between its edges, rounded down.
        one_token: the last of a phrase's tokens alone is looked at.
        coefficient_seed: of the coefficients that all images start from, where none are given.
        repeats_forwards: predict anew what is known already, look at maps that are not used, and predict with both
            models where one draws alone. It changes no result: it is there to cost what the released code costs.
    """

    gradient_from: tuple[Model, ...] = MODELS
    trial_guidance: bool = False
    update_from: Literal["start", "switch"] = "switch"
    counts_steps: bool = False
    hard_regions: bool = False
    one_token: bool = False
    coefficient_seed: int | None = None
    repeats_forwards: bool = False


PAPER = Form()
RELEASED_LAYOUT = Form(
    gradient_from=("spatial",),
    update_from="start",
    counts_steps=True,
    hard_regions=True,
    one_token=True,
    coefficient_seed=31,
    repeats_forwards=True,
)


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
        """The first evaluation, or step, that both models draw; those before are the spatial one's alone."""
        return round(0.4 * self.steps) if self.switch_step is None else self.switch_step

    def count(self, i: int) -> int:
        """The number of evaluation i, or of the step that it belongs to."""
        return max(i - 1, 0) if self._two_at_first else i

    def alone(self, i: int) -> bool:
        """Whether the spatial model draws alone at evaluation i."""
        return self.count(i) < self.first_balanced

    def updates(self, i: int) -> bool:
        """Whether evaluation i moves the coefficients."""
        since = self.count(i) - (self.first_balanced if self.form.update_from == "switch" else 0)
        return since >= 0 and since % self.update_every == 0 and not (self._two_at_first and i == 1)

    def predicted(self, i: int) -> tuple[Model, ...]:
        """The models whose predictions evaluation i takes."""
        spatial_alone = self.alone(i) and not self.updates(i) and not self.form.repeats_forwards
        return MODELS[1:] if spatial_alone else MODELS

    @property
    def _two_at_first(self) -> bool:
        """Whether the first step is two evaluations."""
        return self.sampler == "plms" and self.form.counts_steps


DEFAULTS = Settings()


def make_scheduler(sampler: str, config: dict[str, Any]) -> Any:
    """diffusers' scheduler of a sampler, with a checkpoint's config."""
    scheduler, options = SCHEDULERS[sampler]
    return scheduler.from_config(config, **options)
