"""How a generation goes: every knob but those of the spatial model's kind, and what they make an evaluation do."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from runtime.errors import RealCompoError
from runtime.knobs import Check, Knobs, check_range, knob
from runtime.sampling import SAMPLERS, SPACINGS
from runtime.sampling.tables import Table
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

# What an option is in each form where the caller does not say: the paper's, and that of the authors' released layout
# code (github.com/YangLing0818/RealCompo, ldm/models/diffusion/plms.py and utils/loss_function.py).
FORMS: dict[str, dict[str, Any]] = {
    "paper": {
        "gradient_from": MODELS,
        "update_from": "switch",
        "counting": "evaluations",
        "hard_regions": False,
        "one_token": False,
        "coefficient_seed": None,
    },
    "released": {
        "gradient_from": ("spatial",),
        "update_from": "start",
        "counting": "steps",
        "hard_regions": True,
        "one_token": True,
        "coefficient_seed": 31,
    },
}
UPDATE_FROM = ("switch", "start")
COUNTING = ("evaluations", "steps")


def gradients_help(names: Iterable[str]) -> str:
    """What the option is, and what some of them are."""
    return f"What moves the fusing coefficients: {'; '.join(f'{name}, {GRADIENTS[name]}' for name in names)}."


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


def _check_spacing(name: str, spacing: str | None) -> None:
    if spacing is not None and spacing not in SPACINGS:
        raise RealCompoError(f"{name}={spacing!r} is unknown; use one of {', '.join(SPACINGS)}")


def _one_of(choices: Iterable[str]) -> Check:
    def check(name: str, value: str) -> None:
        if value not in choices:
            raise RealCompoError(f"{name}={value!r} is unknown; use {' or '.join(choices)}")

    return check


def _form_knob(text: str, paper: str, released: str, **limits: Any) -> Any:
    """A knob of `FORMS`, with its default in both in words."""
    return knob(None, text, unset=f"{paper}; in the released form {released}", **limits)


@dataclass(frozen=True)
class Work:
    """What an evaluation does: all about it that is no number. Evaluations of the same work make the same calls."""

    models: tuple[Model, ...]  # that draw
    guided: bool  # whether there are unconditional rows
    gradient: Literal["exact", "surrogate"] | None  # what moves the coefficients; None: they stay
    gradient_from: tuple[Model, ...] = ()  # of `exact` alone, as is the next
    trial_guidance: bool = False

    @property
    def asked(self) -> tuple[Model, ...]:
        """The models that predict: an update takes both, also while one draws alone."""
        return MODELS if self.gradient else self.models


@dataclass(frozen=True, kw_only=True)
class Options(Knobs):
    """What a caller may choose of any bundle. An evaluation is a step of the sampler's table; PLMS has one more than
    denoising steps. What is None here and in `FORMS` is as in its form."""

    steps: int = knob(50, "Number of denoising steps.", low=1)
    seed: int = knob(0, "Seed of the starting noise and the starting coefficients.", low=0)
    sampler: str = knob("plms", f"Sampler: {', '.join(SAMPLERS)}.")
    spacing: str | None = knob(
        None,
        f"Spacing of the timesteps: {', '.join(SPACINGS)}; distilled models want trailing.",
        unset="the model's own",
        check=_check_spacing,
    )
    gradient: str = knob("exact", gradients_help(GRADIENTS), check=_check_gradient)
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
        "Number of first evaluations, or steps (--counting), that use the spatial model alone.",
        low=0,
        unset="0.4 of the steps with GLIGEN, 0 with ControlNets",
    )
    form: str = knob(
        "paper",
        "Whose form of RealCompo the options have that are not given: paper, or released for the authors' layout code.",
        check=_one_of(FORMS),
    )
    coefficient_scale: float = knob(
        1e6, "Step size of the coefficients' updates, per area: the same at every image size.", low=0
    )
    update_from: str = _form_knob(
        "When updates of the coefficients begin: at the switch, or at the start, where the spatial model still draws "
        "alone.",
        "switch",
        "start",
        check=_one_of(UPDATE_FROM),
    )
    update_every: int = knob(
        1, "Number of evaluations, or steps (--counting), from one update of the coefficients to the next.", low=1
    )
    counting: str = _form_knob(
        "What is counted up to the switch, between updates and by the scale's schedule: evaluations, or denoising "
        "steps, of which PLMS's first is two evaluations and one update.",
        "evaluations",
        "steps",
        check=_one_of(COUNTING),
    )
    gradient_from: Sequence[Model] = _form_knob(
        "Models whose attention losses exact adds up: text_to_image, spatial.",
        "both",
        "spatial",
        check=_check_gradient_from,
    )
    hard_regions: bool = _form_knob(
        "Whether cells of attention maps are inside a region or outside, edges rounded down, instead of a share.",
        "no",
        "yes",
    )
    one_token: bool = _form_knob(
        "Whether the last token of a region's phrase alone speaks of it, instead of all of them.", "no", "yes"
    )
    coefficient_seed: int | None = _form_knob(
        "Seed of starting coefficients that all images share.", "none, --seed draws each image its own", "31", low=0
    )
    trial_guidance: bool = knob(False, "Apply guidance in exact's trial step, as the authors' keypoint code does.")

    def __post_init__(self) -> None:
        for name, value in (FORMS[self.form] if self.form in [*FORMS] else {}).items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        super().__post_init__()

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

    def counts(self, table: Table) -> list[int]:
        """The number of each evaluation, or of the denoising step that it is part of, from 0: see `counting`."""
        return table.denoising_steps if self.counting == "steps" else list(range(len(table)))

    def works(self, table: Table, switch_step: int) -> list[Work]:
        """What each evaluation does.

        Args:
            switch_step: where `self.switch_step` does not say.

        Raises:
            RealCompoError: the switch lies after the last evaluation, or step.
        """
        counts, switch = self.counts(table), switch_step if self.switch_step is None else self.switch_step
        check_range("switch_step", switch, 0, counts[-1] + 1)
        # 0.14 of 50 is 7.000000000000001 in floating point
        start, end = (round(share * len(table), 9) for share in self.guidance_interval)
        guided = [self.guided and start <= i < end for i in range(len(table))]
        begins = [True, *(before < count for before, count in pairwise(counts))]
        return [self._work(*row, switch) for row in zip(counts, begins, guided, strict=True)]

    def kinds_of_work(self) -> list[Work]:
        """What evaluations may do: before the switch, and after it with an update."""
        return [self._work(i, True, self.guided, switch=1) for i in (0, 1)]

    def _work(self, i: int, begins: bool, guided: bool, switch: int) -> Work:
        """Of evaluation or step i; an evaluation that goes on with a step does not update."""
        updates = begins and self._updates(i - (switch if self.update_from == "switch" else 0))
        if updates and self.gradient == "exact":
            return Work(self._models(i, switch), guided, "exact", tuple(self.gradient_from), self.trial_guidance)
        gradient: Literal["surrogate"] | None = "surrogate" if updates and self.gradient == "surrogate" else None
        return Work(self._models(i, switch), guided, gradient)

    def _updates(self, since: int) -> bool:
        """So many evaluations or steps after the first update."""
        return since >= 0 and since % self.update_every == 0

    def _models(self, i: int, switch: int) -> tuple[Model, ...]:
        """The spatial model alone before the switch, then those that have a weight; in a model's own mode it alone."""
        if self.gradient == "text_to_image":
            return ("text_to_image",)
        if self.gradient == "spatial" or i < switch or self.fixed_weight == 1:
            return ("spatial",)
        return ("text_to_image",) if self.gradient == "handover" or self.fixed_weight == 0 else MODELS
