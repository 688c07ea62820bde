"""The table of trials: what is changed, and what we predicted before it was run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.study.contenders import Contender

SWITCH = 0.1  # of the steps: before placement is decided, so that there is something left to balance
CHEAP_SWITCHES = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4)  # of handing over, which a trial has to beat
HARSH = 1.6e7


@dataclass(frozen=True)
class Trial:
    """One change to the paper's `exact`, and what was expected of it."""

    name: str
    prediction: str
    lead: float | None = None
    change: str | None = None
    knobs: Mapping[str, Any] = field(default_factory=dict)

    def contender(self, steps: int) -> Contender:
        switch = {"switch_step": round(SWITCH * steps)}
        return Contender(self.name, "trial", {"gradient": "exact", **switch, **self.knobs}, self.change, self.lead)


TRIALS = (
    Trial("as the paper", "Places, for half of the noise is the spatial model's; realism stays halved."),
    Trial("no updates", "The same, for half and half is what both start from.", knobs={"gradient": "none"}),
    Trial(
        "equal start", "Realism up a little: the noise in the coefficients goes.", knobs={"coefficients": "equal"}
    ),
    Trial("text-to-image leads by 2", "Realism near 0.9; placement between handing over at 2 and 3 of 20.", lead=2),
    Trial("leads by 4", "As handing over at the same switch: too far for updates of some tenths.", lead=4),
    Trial(
        "leads by 4, a tenth of the scale",
        "Between handing over at the same switch and the paper's scale: a frontier by scale.",
        lead=4,
        knobs={"coefficient_scale": 1e5},
    ),
    Trial(
        "leads by 4, harsh scale",
        "Updates reach the spatial model where the loss is large: placement back, realism kept elsewhere.",
        lead=4,
        knobs={"coefficient_scale": HARSH},
    ),
    Trial(
        "leads by 4, normalised",
        "As the harsh scale, but wandering on once the loss is met: realism lower.",
        lead=4,
        change="normalised",
    ),
    Trial(
        "leads by 4, a coefficient a region",
        "Whole objects go to one model: fewer mixed pixels than with one a pixel, realism up.",
        lead=4,
        change="by region, normalised",
    ),
    Trial(
        "leads by 4, unmet regions",
        "As the harsh scale with more realism: pixels at no region in need stay the text-to-image model's.",
        lead=4,
        change="unmet",
        knobs={"coefficient_scale": HARSH},
    ),
    Trial(
        "leads by 4, unmet regions, a tenth of the scale",
        "The most realism of all that place as the paper: both causes of mixing are gone.",
        lead=4,
        change="unmet",
        knobs={"coefficient_scale": 1e5},
    ),
    Trial(
        "leads by 2, smooth", "Edges between the models go: recall up by a point or two.", lead=2, change="smooth",
        knobs={"coefficient_scale": HARSH},
    ),
    Trial(
        "leads by 2, momentum", "Placement up where one update is too small, at the same work.", lead=2,
        change="momentum",
    ),
    Trial(
        "unmet regions from half and half",
        "Placement as the paper's; realism no better, for nothing moves towards the text-to-image model.",
        change="unmet",
    ),
)  # fmt: skip
