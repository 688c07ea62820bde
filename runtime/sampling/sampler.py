"""What a sampler is: a row of `SAMPLERS`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from runtime.sampling.schedule import Schedule
from runtime.sampling.tables import Table


@dataclass(frozen=True)
class Sampler:
    """A sampler's name, how it makes its table of a noise schedule, and what it needs to read that."""

    name: str
    scheduler: str  # the class in diffusers that draws as it does, whose configs may say how
    table: Callable[[Schedule, int], Table]  # of so many steps; trials are added to it
    defaults: Mapping[str, Any]  # what its scheduler in diffusers takes where a config is silent
    only: Mapping[str, Any] = field(default_factory=dict)  # settings that the table carries out at this value alone
    spaced: bool = True  # whether timesteps have a spacing; those of distilled samplers are the distillation's
