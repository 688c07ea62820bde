"""Ways to draw by name, as knobs of a call: rows of a table, a study's choice, and what distilled models want."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runtime.bundle.manifest import Manifest
from runtime.errors import RealCompoError
from runtime.knobs import make
from runtime.options import Options
from runtime.request import every_knob
from runtime.sampling import SAMPLERS


@dataclass(frozen=True)
class Preset:
    """A row of the table."""

    about: str
    knobs: Mapping[str, Any] = field(default_factory=dict)


RECOMMENDED = "recommended"
PRESETS: dict[str, Preset] = {
    RECOMMENDED: Preset("which `python -m benchmarks study --save` stored in the bundle"),
    "paper": Preset("the paper's form, which is the default"),
    "fast": Preset("fewer updates, and guidance where it counts", {"update_every": 4, "guidance_interval": (0.0, 0.6)}),
}


TABLED = tuple(name for name in PRESETS if name != RECOMMENDED)  # the same for every bundle


def preset_knobs(name: str | None, manifest: Manifest, given: Mapping[str, Any]) -> dict[str, Any]:
    """A preset's knobs, over what a distilled model in the bundle wants, and on top of these what is given. What a
    study stored stands alone, for so its pictures were drawn; its switch moves along with another number of steps.

    Raises:
        RealCompoError: no preset of that name, a bundle that no study has been stored in, a damaged one, or a number of
            steps that is none.
    """
    if name is not None and name not in PRESETS:
        raise RealCompoError(f"preset={name!r} is unknown; use {', '.join(PRESETS)}")
    if name == RECOMMENDED:
        chosen = _recommended(manifest, given)
    else:
        chosen = {**_recipe(manifest), **(PRESETS[name].knobs if name else {})}
    return {**_fitting(chosen, given), **given}


def _fitting(chosen: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Without a spacing that nobody asked for where the sampler, which may be another, has timesteps of its own."""
    sampler = SAMPLERS.get({**chosen, **given}.get("sampler", ""))
    unspaced = sampler is not None and not sampler.spaced
    return {name: value for name, value in chosen.items() if not (unspaced and name == "spacing")}


def _recipe(manifest: Manifest) -> dict[str, Any]:
    knobs = dict(manifest.recipe.knobs) if manifest.recipe else {}
    _check_knobs(knobs, "distilled model's recipe", "Build the bundle again")
    return knobs


def _recommended(manifest: Manifest, given: Mapping[str, Any]) -> dict[str, Any]:
    if manifest.recommended is None:
        raise RealCompoError(
            "this bundle has no recommended mode: no study has been stored in it. Store one with: "
            "python -m benchmarks study BUNDLE --save"
        )
    knobs: dict[str, Any] = dict(manifest.recommended.knobs)
    _check_knobs(knobs, "recommended mode", "Store another with: python -m benchmarks study BUNDLE --save")
    if "steps" in given and {"steps", "switch_step"} <= knobs.keys():
        steps = make(Options, {"steps": given["steps"]}).steps
        knobs["switch_step"] = round(float(knobs["switch_step"]) * steps / float(knobs["steps"]))
    return knobs


def _check_knobs(knobs: Mapping[str, Any], whose: str, mend: str) -> None:
    if unknown := [knob for knob in knobs if knob not in every_knob()]:
        raise RealCompoError(f"the bundle's {whose} has an unknown option {unknown[0]!r}. {mend}")
    try:
        make(Options, knobs)
    except RealCompoError as error:
        raise RealCompoError(f"the bundle's {whose} is damaged: {error}. {mend}") from error
