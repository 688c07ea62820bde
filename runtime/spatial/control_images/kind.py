"""What a kind of control image is: a row of `CONTROL_KINDS`."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from runtime.layouts.layout import Layout
from runtime.layouts.palette import Palette


@dataclass(frozen=True)
class Canvas:
    """What control images are drawn on."""

    size: tuple[int, int]  # (height, width) in pixels
    palette: Palette  # of classes
    pen: str  # that draws people, of `runtime.layouts.openpose.PENS`


@dataclass(frozen=True)
class ControlKind:
    """How a control image is drawn."""

    name: str  # in manifests and on the command line
    source: str  # what it is drawn from, for people
    draw: Callable[[Layout, Canvas], np.ndarray]  # RGB, float32 (H,W,3) in 0..1; raises FieldError without its source
