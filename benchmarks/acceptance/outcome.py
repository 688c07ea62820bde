"""What a part is given, and what comes of it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Status = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Job:
    """What every part is given.

    Args:
        bundle: its folder.
        device: as the user has named it: auto, cpu, cuda or cuda:N.
        steps: of the pictures that are timed.
        rounds: of timing.
        pictures: folder to put pictures for the page into, as PNG.
    """

    bundle: Path
    device: str
    steps: int
    rounds: int
    pictures: Path


@dataclass(frozen=True)
class Outcome:
    """What a part hands over.

    Args:
        words: what it found, or why it is skipped or has failed.
        found: its own fields, as JSON takes them.
        result: what another benchmark handed over, which has a section of its own on the page.
    """

    status: Status
    words: str
    found: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] | None = None


class NotHere(Exception):
    """A part cannot run on this machine or with this bundle; the message says why."""
