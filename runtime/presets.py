"""Ways to draw by name, as knobs of a call: rows of a table, a study's choice, and what distilled models want."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runtime.bundle.manifest import Manifest
from runtime.errors import RealCompoError
from runtime.request import every_knob


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
    """What a distilled model in the bundle wants, a preset's knobs on top, and on top of these what is given. A stored
    switch moves along with another number of steps.

    Raises:
        RealCompoError: no preset of that name, a bundle that no study has been stored in, or a damaged one.
    """
    if name is not None and name not in PRESETS:
        raise RealCompoError(f"preset {name!r} is unknown; use {', '.join(PRESETS)}")
    wanted = dict(manifest.recipe.knobs) if manifest.recipe else {}
    chosen = _recommended(manifest, given) if name == RECOMMENDED else PRESETS[name].knobs if name else {}
    _check_known(wanted, "distilled model's recipe", "Build the bundle again")
    return {**wanted, **chosen, **given}


def _recommended(manifest: Manifest, given: Mapping[str, Any]) -> dict[str, Any]:
    if manifest.recommended is None:
        raise RealCompoError(
            "this bundle has no recommended mode: no study has been stored in it. Store one with: "
            "python -m benchmarks study BUNDLE --save"
        )
    knobs: dict[str, Any] = dict(manifest.recommended.knobs)
    _check_known(knobs, "recommended mode", "Store another with: python -m benchmarks study BUNDLE --save")
    if "steps" in given and {"steps", "switch_step"} <= knobs.keys():
        knobs["switch_step"] = round(float(knobs["switch_step"]) * given["steps"] / float(knobs["steps"]))
    return knobs


def _check_known(knobs: Mapping[str, Any], whose: str, mend: str) -> None:
    if unknown := [knob for knob in knobs if knob not in every_knob()]:
        raise RealCompoError(f"the bundle's {whose} has an unknown option {unknown[0]!r}. {mend}")
