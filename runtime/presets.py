"""The way to draw that a study chose for a bundle, as knobs of a call."""

from collections.abc import Mapping
from typing import Any

from runtime.bundle.manifest import Manifest
from runtime.errors import RealCompoError
from runtime.request import every_knob

PRESETS = ("recommended",)


def preset_knobs(name: str, manifest: Manifest, given: Mapping[str, Any]) -> dict[str, Any]:
    """A preset's knobs, and those given, which take precedence. The switch moves along with another number of steps.

    Raises:
        RealCompoError: no preset of that name, a bundle that no study has been stored in, or a damaged one.
    """
    if name not in PRESETS:
        raise RealCompoError(f"preset {name!r} is unknown; use {', '.join(PRESETS)}")
    if manifest.recommended is None:
        raise RealCompoError(
            "this bundle has no recommended mode: no study has been stored in it. Store one with: "
            "python -m benchmarks study BUNDLE --save"
        )
    knobs = dict(manifest.recommended.knobs)
    if unknown := [knob for knob in knobs if knob not in every_knob()]:
        raise RealCompoError(
            f"the bundle's recommended mode has an unknown option {unknown[0]!r}. Store another with: "
            "python -m benchmarks study BUNDLE --save"
        )
    if "steps" in given and {"steps", "switch_step"} <= knobs.keys():
        knobs["switch_step"] = round(float(knobs["switch_step"]) * given["steps"] / float(knobs["steps"]))
    return {**knobs, **given}
