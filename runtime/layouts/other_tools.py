"""`Layout.from_coco` and its like: layouts from other tools' files, a row each."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.layouts.layout import Layout


def _from(tool: str | None) -> Any:
    """A class method that reads a tool's file."""

    def read(
        cls: type["Layout"],
        path: Path | str,
        *,
        entry: str | int | None = None,
        size: tuple[float, float] | None = None,
        boxes: str | None = None,
        place: str | None = None,
        phrases: Sequence[str] = (),
        prompt: str | None = None,
    ) -> "Layout":
        from runtime.layouts.formats.kind import Choices
        from runtime.layouts.formats.reading import read_tools_layout  # which needs Layout

        return read_tools_layout(path, tool, Choices(entry, size, boxes, place, tuple(phrases), prompt))

    read.__doc__ = READER.format(
        whose=f"a file of {tool}" if tool else "a tool's file, of whichever tool it can only be"
    )
    return classmethod(read)


READER = """Read {whose}; docs/layouts.md says what is read.

Args:
    entry: which of several pictures: a name or number of the file's, or a place in its list, from 0.
    size: (width, height) that coordinates count in, where the file does not say it.
    boxes: the boxes' form, where the file does not say it: xyxy, xywh, yxyx or cxcywh.
    place: what is taken of objects that have several: box, mask or keypoints; by default the first.
    phrases: the objects' phrases in the file's order, instead of the file's.
    prompt: what to draw, instead of the file's.

Raises:
    RealCompoError: not such a file, or one that leaves open what its numbers mean.
"""
Reader = Callable[..., "Layout"]


class OtherTools:
    """What `Layout` reads of other tools; a row for each of `runtime.layouts.formats.table.FORMATS`."""

    from_tool: Reader = _from(None)
    from_coco: Reader = _from("coco")
    from_lmd: Reader = _from("lmd")
    from_layoutgpt: Reader = _from("layoutgpt")
    from_instancediffusion: Reader = _from("instancediffusion")
    from_gligen: Reader = _from("gligen")
    from_realcompo: Reader = _from("realcompo")
    from_comfyui: Reader = _from("comfyui")
