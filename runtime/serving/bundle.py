"""What a server offers: a bundle, its modes and presets, and what a request has that does not say."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from runtime.bundle.manifest import Manifest
from runtime.errors import RealCompoError
from runtime.knobs import Knob
from runtime.modes import mode_of
from runtime.options import GRADIENTS, gradients_help
from runtime.planners import Planner
from runtime.presets import PRESETS, preset_knobs
from runtime.request import every_knob
from runtime.serving.errors import FIELDS

SAID = ("gradient", "steps", "sampler", "guidance_scale")  # of every preset, and of others what is not the library's


@dataclass(frozen=True)
class Bundle:
    """What requests are checked against."""

    manifest: Manifest
    planner: Planner
    gradients: tuple[str, ...]  # of each mode that is loaded; the first is that of a request that does not say

    @property
    def name(self) -> str:
        return self.manifest.pair.name

    @property
    def image_size(self) -> tuple[int, int]:
        """Height, width."""
        return self.manifest.image_size

    def knobs(self, preset: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
        """All of a call's: what is given, over a preset's, over what a distilled model wants, over the library's.

        Raises:
            RealCompoError: no such preset, or a damaged one.
        """
        defaults = {name: knob.default for name, knob in every_knob().items()} | {"gradient": self.gradients[0]}
        return defaults | preset_knobs(preset, self.manifest, given)

    def described_knobs(self) -> dict[str, Knob]:
        """The library's, with the defaults and the modes that they have here.

        Raises:
            RealCompoError: what the bundle's distilled model wants is no knob.
        """
        knobs, defaults = every_knob(), self.knobs(None, {})
        known = {mode_of(gradient): gradient for gradient in GRADIENTS}
        modes = gradients_help(known[mode_of(gradient)] for gradient in self.gradients)
        found = {
            name: knob if defaults[name] == knob.default else replace(knob, default=defaults[name], unset="")
            for name, knob in knobs.items()
        }
        return found | {"gradient": replace(found["gradient"], help=modes)}

    def presets(self) -> dict[str, dict[str, Any]]:
        """Those that can be drawn with here, and what they are in a request's fields."""
        return {name: {FIELDS.get(knob, knob): value for knob, value in knobs} for name, knobs in self._presets()}

    def _presets(self) -> Iterator[tuple[str, list[tuple[str, Any]]]]:
        own, modes = every_knob(), {mode_of(gradient) for gradient in self.gradients}
        for preset in PRESETS:
            try:
                knobs = self.knobs(preset, {})
            except RealCompoError:  # which a request for it is told
                continue
            if mode_of(knobs["gradient"]) in modes:
                yield preset, [(name, knobs[name]) for name in own if name in SAID or knobs[name] != own[name].default]
