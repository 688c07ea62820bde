"""Who draws: what a bundle must be able to do, wherever it is, and a batch of pictures."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from benchmarks.suite.pictures import is_whole, save
from runtime import Layout
from runtime.errors import RealCompoError

Knobs = Mapping[str, Any]


@dataclass(frozen=True)
class Picture:
    """One to draw."""

    prompt: str
    layout: Layout
    seed: int
    path: Path


@dataclass(frozen=True)
class Batch:
    """Pictures that are always drawn together, for a GPU may round otherwise among others."""

    pictures: Sequence[Picture]
    knobs: Knobs
    out: Path
    side: int


class Draws(Protocol):
    def __call__(self, pictures: Sequence[Picture], knobs: Knobs) -> list[Image.Image]: ...


class Artist(Protocol):
    """A bundle, wherever it is."""

    @property
    def side(self) -> int:
        """Of its pictures, in pixels."""
        ...

    def identity(self) -> Any:
        """What tells it from another, as JSON takes it."""
        ...

    def knobs(self, mode: str, given: Knobs, everything: Knobs) -> Knobs:
        """Those of a mode.

        Args:
            given: on the command line.
            everything: with the defaults.

        Raises:
            RealCompoError: an unknown mode, or a knob out of its range.
        """
        ...

    def batch(self, most: int) -> int: ...

    def draw_all(self, batches: Sequence[Batch], processes: int) -> Iterator[int]:
        """After each batch how many pictures it has."""
        ...


def draw(draws: Draws, batch: Batch) -> int:
    """Draw a batch if one of it is not there whole, and write those that are not."""
    missing = [i for i, picture in enumerate(batch.pictures) if not is_whole(picture.path, batch.side)]
    if missing:
        images = draws(batch.pictures, batch.knobs)
        for i in missing:
            save(images[i], batch.pictures[i].path, batch.out)
    return len(batch.pictures)


def in_order(pool: Executor, work: Any, batches: Sequence[Batch]) -> Iterator[int]:
    """What is under way ends; what is not begun does not begin once one has failed."""
    pending = [pool.submit(work, batch) for batch in batches]
    try:
        for one in pending:
            yield one.result()
    except BrokenProcessPool as error:
        raise RealCompoError(
            "a drawing process died, maybe of memory; use fewer --processes, or a smaller --batch"
        ) from error
    finally:
        for one in pending:
            one.cancel()
