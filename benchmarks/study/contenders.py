"""The table of what is compared: every way of drawing from the two models."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.study.placebo import CHANGES
from runtime.presets import PRESETS
from runtime.spatial.kind import SpatialKind

SWITCHES = (0.1, 0.15, 0.2, 0.4, 0.6)  # of handing over, in shares of the steps; placement is decided early
GATES_ON = (0.3, 0.5, 0.7)  # shares of the evaluations in which the spatial model is told of the layout
WEIGHTS = (0.1, 0.25, 0.5, 0.75)  # of the spatial model
SCALES = (1e5, 1e7)  # beside the paper's, 1e6
SEVERAL = 4  # evaluations an update, beside the paper's one
GUIDED = (0.6, 0.8)  # shares of the run with guidance, beside all of it
STARTS = ("coefficients", "coefficient_seed", "form")  # what says where coefficients start
TOLD_FOR = {
    "gligen": "grounding_fraction",
    "controlnet": "control_end",
    "t2i_adapter": "control_end",
}  # what a kind calls that share


PLACEBO = "placebo"  # a family


@dataclass(frozen=True)
class Contender:
    """A way of drawing.

    Args:
        family: what it is one setting of; it shares a line on the front with others of it.
        knobs: of a call, `gradient` among them; the study's sampling is added.
        change: what replaces its gradient, of the studio's table.
        lead: of the text-to-image model's coefficient over the spatial one's at the start; None starts as drawn.
    """

    name: str
    family: str
    knobs: Mapping[str, Any] = field(default_factory=dict)
    change: str | None = None
    lead: float | None = None

    @property
    def mode(self) -> str:
        return str(self.knobs["gradient"])

    @property
    def starts_itself(self) -> bool:
        """Whether its coefficients start elsewhere than where the study would have them."""
        return self.mode.startswith("fixed") or not self.knobs.keys().isdisjoint(STARTS)

    @property
    def switches(self) -> bool:
        """Whether the text-to-image model comes in at a switch."""
        return self.mode not in ("text_to_image", "spatial")


def contenders(kind: SpatialKind, steps: int) -> list[Contender]:
    """All of them, for a kind of spatial model."""
    return [*_alone(), *_told_for_a_share(kind), *_handing_over(steps), *_constant(), *_balanced(), *_placebos()]


def handing_over(share: float, steps: int) -> Contender:
    switch = round(share * steps)
    return Contender(f"handover at {switch}", "handover", {"gradient": "handover", "switch_step": switch})


def _alone() -> Iterator[Contender]:
    for model in ("text_to_image", "spatial"):
        yield Contender(model, model, {"gradient": model})


def _told_for_a_share(kind: SpatialKind) -> Iterator[Contender]:
    if knob := TOLD_FOR.get(kind.name):
        for share in GATES_ON:
            name = f"spatial, {knob.replace('_', ' ')} {share:g}"
            yield Contender(name, "spatial, told for a share", {"gradient": "spatial", knob: share})


def _handing_over(steps: int) -> Iterator[Contender]:
    switches = dict.fromkeys(max(1, round(share * steps)) for share in SWITCHES)  # few steps have fewer
    for switch in switches:
        yield handing_over(switch / steps, steps)


def _constant() -> Iterator[Contender]:
    for weight in WEIGHTS:
        yield Contender(f"fixed:{weight:g}", "constant weight", {"gradient": f"fixed:{weight:g}"})


def _balanced() -> Iterator[Contender]:
    yield Contender("none", "coefficients as drawn", {"gradient": "none"})
    yield Contender("surrogate", "surrogate", {"gradient": "surrogate"})
    yield EXACT
    for scale in SCALES:
        name = f"exact, scale {scale:.0e}".replace("e+0", "e")
        yield Contender(name, "exact", {"gradient": "exact", "coefficient_scale": scale})
    yield Contender(f"exact, update every {SEVERAL}", "exact", {"gradient": "exact", "update_every": SEVERAL})
    for share in GUIDED:
        knobs = {"gradient": "exact", "guidance_interval": (0.0, share)}
        yield Contender(f"exact, guidance for {share:g}", "exact", knobs)
    yield Contender("exact, preset fast", "exact", {**EXACT.knobs, **PRESETS["fast"].knobs})
    yield Contender("exact, released form", "exact", {"gradient": "exact", "form": "released"})


def _placebos() -> Iterator[Contender]:
    for name in CHANGES:
        yield Contender(f"placebo: {name}", PLACEBO, EXACT.knobs, name)


EXACT = Contender("exact", "exact", {"gradient": "exact"})  # as in the paper
