"""What a suite is: its prompts, the names of its pictures, its scorer's commands, and what its results say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from runtime import Layout
from runtime.errors import RealCompoError

Scores = Mapping[str, NDArray[np.float64]]  # of each figure (prompts,), 0..1, higher is better; NaN where there is none


@dataclass(frozen=True)
class Prompt:
    """One prompt.

    Args:
        id: by which the suite names it.
        layout: the suite's own, where it has one.
        asked: what the suite's rule asks of it, in a form of the suite's.
    """

    id: str
    text: str
    layout: Layout | None = None
    asked: Any = None


@dataclass(frozen=True)
class Task:
    """One category of a suite, as much of it as is drawn.

    Args:
        images: pictures of each prompt.
        seed: of each prompt's first picture; the next has the next.
        whole: whether these are all of the suite's prompts.
    """

    name: str
    prompts: Sequence[Prompt]
    images: int
    seed: int
    whole: bool = True


@dataclass(frozen=True)
class Run:
    """What a scorer is to judge: one task, drawn by one mode.

    Args:
        checkout: the suite's own repository.
        drawn: the mode's folder of pictures.
        results: a folder for what is not written beside the pictures.
        side: of the pictures, in pixels.
    """

    checkout: Path
    task: Task
    drawn: Path
    results: Path
    side: int


@dataclass(frozen=True)
class Command:
    """A script of the suite's, for the Python that it is given.

    Args:
        arguments: the script and what follows it.
        folder: that the script has to run in.
        needed: whether nothing can be read without it.
    """

    arguments: tuple[str, ...]
    folder: Path
    needed: bool = True


@dataclass(frozen=True)
class Read:
    """A scorer's results: figures prompt by prompt, and those that it said itself of all."""

    scores: Scores
    said: Mapping[str, float]


class Suite(Protocol):
    """One suite. What the scorer writes is deleted (`old`) before its commands run."""

    name: str
    title: str
    tasks: tuple[str, ...]
    images: int  # of each prompt, as the suite's own scripts have it
    seed: int

    def prompts(self, checkout: Path, task: str) -> list[Prompt]:
        """Raises: RealCompoError: the checkout has them not, or not in the form that is known."""
        ...

    def picture(self, task: Task, i: int, k: int) -> Path:
        """Of prompt i the k-th picture, in a mode's folder."""
        ...

    def check(self, task: Task, side: int) -> None:
        """Raises: RealCompoError: the scorer cannot judge so few pictures, or none of this size."""
        return

    def old(self, run: Run) -> list[Path]:
        """What an earlier run of the scorer may have left where it now looks or writes."""
        ...

    def commands(self, run: Run) -> list[Command]: ...

    def read(self, run: Run) -> Read:
        """Raises: RealCompoError: a result that is missing, is not of these pictures, or contradicts itself."""
        ...

    def layout_commands(self, checkout: Path, task: Task, layouts: Sequence[Layout], folder: Path) -> list[Command]:
        """Of suites that judge layouts too: how, with what is needed for it written into a folder."""
        return []

    def read_layouts(self, task: Task, log: Path) -> Mapping[str, float]:
        """What those commands said."""
        return {}


def pictures_of(suite: Suite, task: Task) -> list[tuple[int, int, Path]]:
    """All of a task in the order of the prompts: prompt, which of its pictures, name in a mode's folder."""
    return [(i, k, suite.picture(task, i, k)) for i in range(len(task.prompts)) for k in range(task.images)]


def over_images(values: Sequence[float], task: Task) -> NDArray[np.float64]:
    """(prompts,): the means of numbers a picture, in the order of `pictures_of`."""
    return np.asarray(values, np.float64).reshape(len(task.prompts), task.images).mean(axis=1)


def read_lines(path: Path, what: str) -> list[str]:
    """A file's lines, but for empty ones at its end.

    Raises:
        RealCompoError: there is no such file.
    """
    return read_text(path, what).rstrip().splitlines()


def read_text(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RealCompoError(f"cannot read {what} {path}: {getattr(error, 'strerror', None) or error}") from error
