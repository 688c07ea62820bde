"""How distilled models want to be drawn with: known families of LoRAs and checkpoints, told by their names.

The settings are those of the models' own pages on the Hugging Face hub, for diffusers. Names are compared in lower
case, with - between words. A family's name alone tells nothing, for lightning is also a thing to draw: a number of
steps has to be there too, or nothing but the words that such files are named with.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.checkpoints.source import hub_source, is_weights
from runtime.bundle.manifest import RecipeSpec
from runtime.errors import RealCompoError
from runtime.sampling import make_table

_STEPS = r"(?<![0-9v])(1[0-6]|[1-9])-?steps?(?![a-z]|-?[0-9])"  # nobody distils to more; longer numbers are of training
_BASE = r"sd(?:-?xl|-?v?[12]-?[0-9]?)?|ssd-1b"
_PLAIN = (
    r"(?:-(?:sd(?:xl|v?[12][0-9]?)?|ssd|1b|xl|lora|unet|weights|base|fp16|fp32|bf16|v?[0-9]+|[0-9]+dim|rank[0-9]+))*"
)
# What diffusers, PEFT and the hub's cache call everybody's files and folders: the next folder's name then says more
_EVERYBODYS = re.compile(
    r"pytorch-lora-weights|adapter-model|(?:diffusion-pytorch-)?model(?:-fp16)?|unet|fp16|snapshots|[0-9a-f]+"
)
_CACHED = "models--"  # what a repository's folder in the hub's cache begins with: models--ORG--NAME


@dataclass(frozen=True)
class Recipe:
    """A row of the table. A number of steps in a name goes before the row's."""

    name: str
    tells: tuple[str, ...]  # patterns of the names, one of which is found
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

    def takes(self, steps: int, scheduler: Mapping[str, Any]) -> bool:
        """Whether its sampler draws in so many steps with a model's scheduler config."""
        try:
            make_table(self.sampler, steps, scheduler, self.spacing)
        except RealCompoError:
            return False
        return True


def _counted(family: str, *further: str) -> str:
    """Found where a family's name, further ones and a number of steps are, in any order."""
    words = (rf"(?=.*(?<![a-z0-9])(?:{word})(?![a-z0-9]))" for word in (family, *further))
    return rf"^{''.join(words)}.*{_STEPS}"


def _named(whole: str) -> str:
    """Found where a whole name is this, and plain words after it."""
    return rf"(?:^|/)(?:{whole}){_PLAIN}(?:/|$)"


def _acronym(family: str) -> tuple[str, ...]:
    return _counted(family), _named(rf"{family}-(?:lora|{_BASE})|(?:{_BASE})-{family}")


_HYPER = rf"hyper-?(?:{_BASE})|(?:{_BASE})-?hyper"
_LIGHTNING, _TURBO = r"sd-?xl-?lightning", r"sd-?(?:xl-?)?turbo"
RECIPES = (  # the first that fits
    Recipe("Tabletop's own", (rf"(?:^|/)lora-tabletop-{_STEPS}-",), "docs/tabletop.md", "ddim", "trailing", 8, 2.5),
    Recipe("Hyper-SD, one step", (_counted(_HYPER, "1-?steps?"),), "ByteDance/Hyper-SD", "tcd", None, 1, 1.0),
    Recipe("Hyper-SD, with guidance", (_counted(_HYPER, "cfg"),), "ByteDance/Hyper-SD", "ddim", "trailing", 8, 5.0),
    Recipe("Hyper-SD", (_counted(_HYPER), _named(_HYPER)), "ByteDance/Hyper-SD", "ddim", "trailing", 4, 1.0),
    Recipe(
        "Lightning",
        (_counted(rf"lightning|{_LIGHTNING}"), _named(_LIGHTNING)),
        "ByteDance/SDXL-Lightning",
        "euler",
        "trailing",
        4,
        1.0,
    ),
    Recipe("LCM", _acronym("lcm"), "latent-consistency/lcm-lora-sdv1-5", "lcm", None, 4, 1.0),
    Recipe("TCD", _acronym("tcd"), "h1t/TCD-SD15-LoRA", "tcd", None, 4, 1.0),
    Recipe(
        "Turbo", (_counted(rf"turbo|{_TURBO}"), _named(_TURBO)), "stabilityai/sdxl-turbo", "euler", "trailing", 4, 1.0
    ),
)


def recipe_of(models: Iterable[str], scheduler: Mapping[str, Any] | None = None) -> RecipeSpec | None:
    """What the first of these LoRAs or models that is known to be distilled wants.

    Args:
        scheduler: the scheduler config of the model that is drawn with. What a sampler cannot draw with it, such as a
            number of steps that it does not take, is not wanted.
    """
    found = (recipe for model in models if (recipe := _recipe(model, scheduler or {})))
    return next(found, None)


def _recipe(model: str, scheduler: Mapping[str, Any]) -> RecipeSpec | None:
    names = "/".join(_telling_names(model))
    row = next((row for row in RECIPES if any(re.search(pattern, names) for pattern in row.tells)), None)
    if row is None:
        return None
    said = re.search(_STEPS, names)
    counts = (int(said[1]), row.steps) if said else (row.steps,)
    steps = next((count for count in counts if row.takes(count, scheduler)), None)
    return RecipeSpec(name=row.name, file=model, knobs=row.knobs(steps)) if steps else None


def _telling_names(model: str) -> Iterator[str]:
    """From a file's name up: to the repository's on a hub or in its cache, or to the first that is not everybody's."""
    parts, repository = _parts(model)
    for i, part in reversed(list(enumerate(parts))):
        name = _in_words(part)
        yield name
        if i <= repository and not _EVERYBODYS.fullmatch(name):
            return


def _parts(model: str) -> tuple[list[str], int]:
    """The names on the way to a model, and which of them is its repository's, if any of them is; else the last."""
    if source := hub_source(model):
        return [*source.repo.split("/"), *filter(None, source.path.split("/"))], 1
    parts = list(Path(model).parts)
    return parts, next((i for i, part in enumerate(parts) if part.startswith(_CACHED)), len(parts) - 1)


def _in_words(part: str) -> str:
    name = Path(part).stem if is_weights(part) else part
    if name.startswith(_CACHED):
        name = name.rpartition("--")[2]
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
