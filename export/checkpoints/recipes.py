"""How distilled models want to be drawn with: known families of LoRAs and checkpoints, told by their files' names.

The settings are those of the models' own pages on the Hugging Face hub, for diffusers.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from runtime.bundle.manifest import RecipeSpec

_STEPS = re.compile(r"(?<![0-9])([1-9][0-9]?)[-_ ]?steps?(?![a-z])")
_PLAIN = "pytorch_lora_weights"  # what diffusers calls every LoRA: the folder's name then says more


@dataclass(frozen=True)
class Recipe:
    """A row of the table. A number of steps in the file's name goes before the row's."""

    name: str
    pattern: str  # of the file's name in lower case
    source: str  # where the settings are from
    sampler: str
    spacing: str | None
    steps: int
    guidance_scale: float  # 1 turns guidance off

    def knobs(self, steps: int | None) -> dict[str, bool | int | float | str]:
        """What a call is told."""
        spacing: dict[str, bool | int | float | str] = {"spacing": self.spacing} if self.spacing else {}
        told = {"sampler": self.sampler, **spacing, "steps": steps or self.steps}
        return {**told, "guidance_scale": self.guidance_scale}


def _word(word: str) -> str:
    return rf"(?<![a-z]){word}(?![a-z])"


RECIPES = (  # the first that fits
    Recipe("Tabletop's own", r"tabletop.*steps", "docs/tabletop.md", "ddim", "trailing", 8, 2.5),
    Recipe("Hyper-SD, one step", r"hyper-?sd.*(?<![0-9])1-?step", "ByteDance/Hyper-SD", "tcd", None, 1, 1.0),
    Recipe("Hyper-SD, with guidance", r"hyper-?sd.*cfg", "ByteDance/Hyper-SD", "ddim", "trailing", 8, 5.0),
    Recipe("Hyper-SD", r"hyper-?sd", "ByteDance/Hyper-SD", "ddim", "trailing", 4, 1.0),
    Recipe("Lightning", _word("lightning"), "ByteDance/SDXL-Lightning", "euler", "trailing", 4, 1.0),
    Recipe("LCM", _word("lcm"), "latent-consistency/lcm-lora-sdv1-5", "lcm", None, 4, 1.0),
    Recipe("TCD", _word("tcd"), "h1t/TCD-SD15-LoRA", "tcd", None, 4, 1.0),
    Recipe("Turbo", _word("turbo"), "stabilityai/sdxl-turbo", "euler", "trailing", 4, 1.0),
)


def recipe_of(files: Iterable[str]) -> RecipeSpec | None:
    """What the first of these LoRAs or models that is known to be distilled wants."""
    for file in files:
        name = _telling_name(file)
        if found := next((row for row in RECIPES if re.search(row.pattern, name)), None):
            steps = _STEPS.search(name)
            return RecipeSpec(name=found.name, file=file, knobs=found.knobs(int(steps[1]) if steps else None))
    return None


def _telling_name(file: str) -> str:
    path = Path(file)
    return (path.parent.name if path.stem == _PLAIN else path.name).lower()
