"""The library's options as ComfyUI's widgets: made from the one record, by type, or by name where ComfyUI has more."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from comfy_api.latest import io

from runtime.denoising.noise import MOST as MOST_SEED
from runtime.knobs import Knob
from runtime.options import FORMS, GRADIENTS
from runtime.request import every_knob
from runtime.sampling import SAMPLERS, SPACINGS

BASIC = ("steps", "seed", "sampler", "gradient", "guidance_scale")  # the others are among a node's advanced ones
MOST = 2**31 - 1  # ComfyUI's own limit where none is said is 2048
UNSET = -1  # of a number that may be left to the library, which a widget cannot leave empty
WEIGHT = "fixed_weight"


@dataclass(frozen=True)
class Widgets:
    """How an option is asked for, and read back from what the node was given."""

    inputs: Callable[[Knob], list[io.Input]]
    value: Callable[[Knob, Mapping[str, Any]], Any] = lambda knob, given: given[knob.name]


def option_inputs() -> list[io.Input]:
    """A node's inputs for the options. All may be left out, so that a workflow outlives an option that is added."""
    return [one for knob in _knobs() for one in _widgets(knob).inputs(knob)]


def read_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The library's options from a node's inputs; what a workflow leaves out is not among them."""
    rows = [(knob, _widgets(knob)) for knob in _knobs()]
    known = [(knob, row) for knob, row in rows if all(one.id in given for one in row.inputs(knob))]
    return {knob.name: row.value(knob, given) for knob, row in known}


def _knobs() -> list[Knob]:
    """All but those that `form` sets together."""
    return [knob for knob in every_knob().values() if knob.name not in FORMS["paper"]]


def _widgets(knob: Knob) -> Widgets:
    return BY_NAME.get(knob.name) or BY_TYPE[knob.type]


def _told(knob: Knob) -> dict[str, Any]:
    tooltip = f"{knob.help} Default: {knob.unset}." if knob.unset else knob.help
    return {"tooltip": tooltip, "optional": True, "advanced": knob.name not in BASIC}


def _range(knob: Knob, most: int = MOST) -> dict[str, Any]:
    return {"min": knob.low, "max": min(knob.high, most)}


def _integer(knob: Knob) -> list[io.Input]:
    return [io.Int.Input(knob.name, default=knob.default, **_range(knob), **_told(knob))]


def _seed(knob: Knob) -> list[io.Input]:
    return [
        io.Int.Input(
            knob.name, default=knob.default, control_after_generate=True, **_range(knob, MOST_SEED), **_told(knob)
        )
    ]


def _integer_or_unset(knob: Knob) -> list[io.Input]:
    told = _told(knob) | {"tooltip": f"{knob.help} {UNSET}: {knob.unset}."}
    return [io.Int.Input(knob.name, default=UNSET, min=UNSET, max=MOST, **told)]


def _number(knob: Knob) -> list[io.Input]:
    return [io.Float.Input(knob.name, default=knob.default, step=0.05, round=False, **_range(knob), **_told(knob))]


def _ends(knob: Knob) -> tuple[str, str]:
    return f"{knob.name}_start", f"{knob.name}_end"


def _interval(knob: Knob) -> list[io.Input]:
    return [
        io.Float.Input(end, default=default, step=0.05, round=False, **_range(knob), **_told(knob))
        for end, default in zip(_ends(knob), knob.default, strict=True)
    ]


def _yes_or_no(knob: Knob) -> list[io.Input]:
    return [io.Boolean.Input(knob.name, default=knob.default, **_told(knob))]


def _choice(choices: Sequence[str]) -> Callable[[Knob], list[io.Input]]:
    return lambda knob: [io.Combo.Input(knob.name, options=list(choices), default=knob.default, **_told(knob))]


def _spacing(knob: Knob) -> list[io.Input]:
    """The library's None has a name: what it stands for."""
    return [io.Combo.Input(knob.name, options=[knob.unset, *SPACINGS], default=knob.unset, **_told(knob))]


def _gradient(knob: Knob) -> list[io.Input]:
    """A list cannot hold a number: the weight of `fixed:W` is a widget of its own."""
    weight = {"tooltip": "The spatial model's weight W in the mode fixed:W.", "optional": True, "advanced": True}
    return [
        *_choice(list(GRADIENTS))(knob),
        io.Float.Input(WEIGHT, default=0.5, min=0, max=1, step=0.05, round=False, **weight),
    ]


BY_NAME: dict[str, Widgets] = {
    "seed": Widgets(_seed),
    "sampler": Widgets(_choice(list(SAMPLERS))),
    "spacing": Widgets(_spacing, lambda knob, given: None if given[knob.name] == knob.unset else given[knob.name]),
    "form": Widgets(_choice(list(FORMS))),
    "gradient": Widgets(_gradient, lambda knob, given: given[knob.name].replace(":W", f":{given[WEIGHT]}")),
}
BY_TYPE: dict[Any, Widgets] = {
    int: Widgets(_integer),
    int | None: Widgets(_integer_or_unset, lambda knob, given: None if given[knob.name] == UNSET else given[knob.name]),
    float: Widgets(_number),
    float | Sequence[float]: Widgets(_number),
    tuple[float, float]: Widgets(_interval, lambda knob, given: tuple(given[end] for end in _ends(knob))),
    bool: Widgets(_yes_or_no),
}
