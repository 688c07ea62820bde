"""How a server behaves: its limits, and how long it waits. The command's options are made of this record."""

import logging
from dataclasses import dataclass, replace

from runtime.errors import RealCompoError
from runtime.knobs import Check, Knobs, knob
from runtime.planners import PLANNERS
from runtime.serving.quantities import seconds, size

log = logging.getLogger("realcompo.serving")


def _check_seconds(name: str, text: str) -> None:
    seconds(name, text)


def _check_some_seconds(name: str, text: str) -> None:
    if not seconds(name, text):
        raise RealCompoError(f"{name}={text!r} leaves no time; give more")


def _check_size(name: str, text: str) -> None:
    if not size(name, text):
        raise RealCompoError(f"{name}={text!r} leaves no room; give more")


def _one_of(*names: str) -> Check:
    def check(name: str, value: str) -> None:
        if value not in names:
            raise RealCompoError(f"{name}={value!r} is unknown; use one of {', '.join(names)}")

    return check


@dataclass(frozen=True, kw_only=True)
class Settings(Knobs):
    """Limits of a server and of what it is asked for."""

    max_queue: int = knob(64, "Number of requests that may wait; more are answered 429.", low=1)
    max_batch: int = knob(8, "Number of images that are drawn in one run, and that a request may ask for.", low=1)
    batch_window: str = knob(
        "20ms", "How long a run waits for as many requests as lately came together.", check=_check_seconds
    )
    time_limit: str = knob("120s", "Time from a request to its answer; then it is dropped.", check=_check_some_seconds)
    max_steps: int = knob(150, "Number of steps that a request may ask for.", low=1)
    max_body: str = knob("8MB", "Size of a request's body.", check=_check_size)
    max_pixels: int = knob(4_194_304, "Number of pixels of a picture in a request; four times that of all.", low=1)
    planner: str = knob("offline", f"Planner for plan: {', '.join(PLANNERS)}.", check=_one_of(*PLANNERS))

    def within(self, most_images: int | None) -> "Settings":
        """These for engines that draw so many images at once, and say so where that is less than asked for."""
        if most_images is None or self.max_batch <= most_images:
            return self
        log.warning(
            "max_batch=%d is more than this bundle's plans take: runs have %d images; build it with a larger --batch "
            "for more",
            self.max_batch,
            most_images,
        )
        return replace(self, max_batch=most_images)

    @property
    def batch_window_seconds(self) -> float:
        return seconds("batch_window", self.batch_window)

    @property
    def time_limit_seconds(self) -> float:
        return seconds("time_limit", self.time_limit)

    @property
    def max_body_bytes(self) -> int:
        return size("max_body", self.max_body)

    @property
    def max_pixels_together(self) -> int:
        return 4 * self.max_pixels
