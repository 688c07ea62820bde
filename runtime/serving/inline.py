"""Layouts in a request: the layout file's schema, with pictures as base64 PNG and poses as objects where a file names
paths. No path is ever read from a request."""

import base64
import binascii
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Annotated, Any

from PIL import Image
from pydantic import BeforeValidator, ConfigDict, Field

from runtime import Layout, Region
from runtime.errors import FieldError
from runtime.layouts.files import load_picture
from runtime.layouts.finished import FINISHED
from runtime.layouts.geometry import Keypoint
from runtime.layouts.openpose import Frame, chosen_frame, keypoints_of
from runtime.layouts.schema import KINDS, FilePoint, LayoutFile, RegionFile
from runtime.words import MAX_REGIONS

LONGEST_TEXT = 4000  # characters of a prompt or a phrase; text encoders take some hundred
MOST_POINTS, MOST_TOKENS = 200, 1000
DATA_URL = "data:image/png;base64,"


def _several(frames: Any) -> Any:
    """One frame alone needs no list."""
    if not isinstance(frames, dict | list):
        raise ValueError("give the object that OpenPose writes, or a list of such, never a path")
    return [frames] if isinstance(frames, dict) else frames


Frames = Annotated[list[Frame], BeforeValidator(_several)]
Picture = Annotated[str, Field(description=f"PNG in base64, with or without {DATA_URL!r} before it.")]


class InlineRegion(RegionFile):
    """An object's phrase and its place: one of box, mask, keypoints and openpose, or a label alone."""

    model_config = ConfigDict(title="InlineRegion")

    phrase: Annotated[
        str, Field(description="The object's words, which the prompt contains too.", max_length=LONGEST_TEXT)
    ]
    mask: Picture | None = None
    keypoints: Annotated[
        list[FilePoint | None] | None,
        Field(
            description="[x, y] each, in fractions, null where not seen; 18 or 25 for openpose ControlNets.",
            max_length=MOST_POINTS,
        ),
    ] = None
    openpose: Annotated[
        Frames | None, Field(description="What OpenPose writes of a picture: a frame, or a list of frames.")
    ] = None  # type: ignore[assignment]
    tokens: Annotated[
        list[int] | None,
        Field(description="Indices of the prompt's tokens that speak of the object.", max_length=MOST_TOKENS),
    ] = None


class InlineLayout(LayoutFile):
    """The regions of one image, and what spatial models see of it."""

    model_config = ConfigDict(title="InlineLayout")

    prompt: Annotated[str | None, Field(description="What to draw.", max_length=LONGEST_TEXT)] = None
    regions: Annotated[  # type: ignore[assignment]
        list[InlineRegion], Field(description="The objects and their places; may be empty.", max_length=MAX_REGIONS)
    ]
    segmentation: Picture | None = None
    depth: Picture | None = None
    control: Annotated[
        dict[str, Picture],
        Field(
            description=f"Finished control pictures by kind. {KINDS}",
            json_schema_extra={"propertyNames": {"enum": list(FINISHED)}},
        ),
    ] = Field(default_factory=dict)


@dataclass
class Pixels:
    """How many may be decoded: in a picture, and in what is left of those for a request."""

    most: int
    left: int

    def take(self, field: str, size: tuple[int, int]) -> None:
        """Raises: FieldError: too many."""
        count = size[0] * size[1]
        if count > min(self.most, self.left):
            raise FieldError(
                field,
                f"{size[0]}x{size[1]} pixels are too many; a picture may have {self.most}, and all that are left here "
                f"{self.left}: send smaller ones",
            )
        self.left -= count


def read_layout(inline: InlineLayout, pixels: Pixels) -> Layout:
    """Raises: FieldError: a place or a picture that is wrong; its field stands relative to the layout."""
    regions = [_read_region(region, f"regions.{i}", pixels) for i, region in enumerate(inline.regions)]
    segmentation = _decode(inline.segmentation, "segmentation", pixels)
    depth = _decode(inline.depth, "depth", pixels)
    control = {kind: _decoded(text, f"control.{kind}", pixels) for kind, text in inline.control.items()}
    return Layout(regions, inline.prompt, segmentation, depth, inline.background, control)


def _read_region(region: InlineRegion, place: str, pixels: Pixels) -> Region:
    with _within(place):
        mask = _decode(region.mask, "mask", pixels)
        return Region(region.phrase, region.box, mask, _keypoints(region), region.tokens, region.label, region.layer)


def _keypoints(region: InlineRegion) -> Sequence[Keypoint] | None:
    if region.openpose is None:
        return region.keypoints
    return keypoints_of(chosen_frame(region.openpose, region.frame, "openpose"), region.person, "openpose")


def _decode(text: str | None, field: str, pixels: Pixels) -> Image.Image | None:
    return None if text is None else _decoded(text, field, pixels)


def _decoded(text: str, field: str, pixels: Pixels) -> Image.Image:
    try:
        content = base64.b64decode(text.removeprefix(DATA_URL), validate=True)
    except (binascii.Error, ValueError) as error:
        raise FieldError(field, "this is no base64; give the bytes of a PNG in base64, never a path") from error
    return load_picture(BytesIO(content), field, ("PNG",), lambda size: pixels.take(field, size))


@contextmanager
def _within(parent: str) -> Iterator[None]:
    try:
        yield
    except FieldError as error:
        raise FieldError(".".join(filter(None, (parent, error.field))), str(error)) from error
