"""A request on its way: what was asked, and whom to tell what becomes of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from PIL.Image import Image

from runtime.serving.contract import Order
from runtime.serving.errors import Refusal
from runtime.serving.names import new_name


@dataclass(frozen=True)
class Seen:
    """What the balancer saw of one image, at the end of its run. Grey pictures, at latent and at map resolution."""

    losses: list[float]  # one an evaluation
    spatial_weight: Image
    attention: list[Image]  # one a region


@dataclass(frozen=True)
class Partial:
    """A picture on the way."""

    index: int
    step: int  # evaluations done
    steps: int
    losses: list[float]  # of the evaluations since the last partial, the mean over the request's images
    images: list[Image]


@dataclass(frozen=True)
class Done:
    images: list[Image]
    seen: list[Seen]  # one an image, with `trace`
    seconds: dict[str, float]  # by stage, of the run that it shared; `wait`: before that
    batch: int  # images in that run when it began


@dataclass(frozen=True)
class Failed:
    refusal: Refusal


Event = Partial | Done | Failed


@dataclass(eq=False)
class Job:
    """A request that was accepted. Its fields are set once; `cancelled` may become true at any time.

    Args:
        came: when its body had come, before it was read, by the clock that only goes forward.
    """

    order: Order
    tell: Callable[[Event], None]  # may be called from any thread
    id: str = field(default_factory=new_name)
    came: float = field(default_factory=time.monotonic)
    cancelled: bool = False
