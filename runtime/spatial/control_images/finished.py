"""Control images that are finished pictures: those of a layout, and the kinds that nothing else can be drawn for."""

import numpy as np

from runtime.errors import FieldError
from runtime.layouts.finished import FINISHED, resized
from runtime.layouts.layout import Layout
from runtime.spatial.control_images.kind import Canvas, ControlKind


def finished(layout: Layout, kind: str, size: tuple[int, int]) -> np.ndarray | None:
    """The layout's own picture of a kind, float32 (H,W,3), if it has one."""
    picture = layout.control.get(kind)
    return None if picture is None else resized(np.asarray(picture), kind, size)


def _finished_alone(name: str) -> ControlKind:
    def draw(layout: Layout, canvas: Canvas) -> np.ndarray:
        raise FieldError(
            f"control.{name}", f"the layout has no control.{name}, a picture with {FINISHED[name].shows}; give it one"
        )

    return ControlKind(name, "the layout's own picture", draw)


FINISHED_ALONE = tuple(
    map(
        _finished_alone,
        ("canny", "lineart", "lineart_anime", "softedge", "mlsd", "normal", "tile", "ip2p", "shuffle", "inpaint"),
    )
)
