"""What a prompt asks of a layout, and how a layout does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from runtime.layouts.layout import Layout

Figures = Mapping[str, float]  # "accuracy" is 1 where the layout is right, and 0 where it is not


class Case(Protocol):
    """A prompt, its type in its benchmark, and that benchmark's rule."""

    @property
    def prompt(self) -> str: ...

    @property
    def type(self) -> str: ...

    @property
    def asked(self) -> str:
        """What is asked, for people."""
        ...

    def figures(self, layout: Layout) -> Figures:
        """The rule's figures; an empty layout stands for a planner that gave none."""
        ...


@dataclass(frozen=True)
class Counts:
    """So many of each object; subclasses have their benchmarks' rules."""

    prompt: str
    type: str
    objects: Sequence[tuple[str, int]]

    @property
    def asked(self) -> str:
        return ", ".join(f"{count} {name}" for name, count in self.objects)


@dataclass(frozen=True)
class Free:
    """A prompt with no rule to check: whether there is a layout at all."""

    prompt: str
    type: str = "all"
    asked: str = "a layout"

    def figures(self, layout: Layout) -> Figures:
        return {"accuracy": float(bool(layout.regions))}
