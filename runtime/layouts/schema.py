"""layout.json: what may stand in it, as pydantic models and as a JSON Schema."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from runtime.errors import RealCompoError
from runtime.json_text import read_json
from runtime.layouts.finished import FINISHED

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"

# `Region` checks the range, in plainer words than pydantic's.
Fraction = Annotated[float, Field(json_schema_extra={"minimum": 0, "maximum": 1})]
KINDS = "; ".join(f"{kind}: {row.shows}" for kind, row in FINISHED.items())
PLACES = ("box", "mask", "keypoints", "openpose")  # of which a region has one
FilePoint = tuple[float, float]  # may be outside the image
Label = int | str


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RegionFile(_Strict):
    """An object's phrase and its place: one of box, mask, keypoints and openpose, or a label alone."""

    model_config = ConfigDict(title="Region")

    phrase: Annotated[str, Field(description="The object's words, which the prompt contains too.")]
    box: Annotated[
        tuple[Fraction, Fraction, Fraction, Fraction] | None,
        Field(description="[x0, y0, x1, y1] in fractions of width and height, origin top left."),
    ] = None
    mask: Annotated[
        str | None,
        Field(description="Picture over the whole image, white where the object is; in the layout's folder or below."),
    ] = None
    keypoints: Annotated[
        list[FilePoint | None] | None,
        Field(
            description="[x, y] each, in fractions, null where not seen; outside 0 to 1 is outside the image. The "
            "region is the image's part of the box around them. openpose ControlNets take 18 in the order of "
            "OpenPose's COCO, 25 in that of BODY_25, or 17 in COCO's own; of these, [0, 0] and [-1, -1] are not seen "
            "either."
        ),
    ] = None
    openpose: Annotated[
        str | None,
        Field(description="JSON file as OpenPose writes it, with the keypoints; in the layout's folder or below."),
    ] = None
    person: Annotated[int, Field(description="Which of the openpose file's people.", ge=0)] = 0
    frame: Annotated[
        int | None, Field(description="Which of the openpose file's frames, where it has several.", ge=0)
    ] = None
    label: Annotated[
        Label | None,
        Field(
            description="The object's class: its id, or its name in ADE20K. Without a place, the region is what the "
            "layout's segmentation has of the class."
        ),
    ] = None
    layer: Annotated[
        int,
        Field(description="Which regions are nearer: where two overlap, the one of the higher layer covers the other."),
    ] = 0
    tokens: Annotated[
        list[int] | None,
        Field(description="Indices of the prompt's tokens that speak of the object, instead of those its words match."),
    ] = None

    @model_validator(mode="after")
    def _has_one_place(self) -> "RegionFile":
        places = [name for name in PLACES if getattr(self, name) is not None]
        if len(places) > 1:
            raise ValueError(f"{' and '.join(places[:2])} are both given; give one")
        if self.openpose is None and "person" in self.model_fields_set:
            raise ValueError("person is given without openpose, the file that has the people")
        if self.openpose is None and self.frame is not None:
            raise ValueError("frame is given without openpose, the file that has the frames")
        return self


class LayoutFile(_Strict):
    """The regions of one image, and what spatial models see of it."""

    model_config = ConfigDict(title="RealCompo layout")

    schema_: Annotated[str | None, Field(alias="$schema", description="For editors: where this schema is.")] = None
    prompt: Annotated[str | None, Field(description="What to draw.")] = None
    regions: Annotated[list[RegionFile], Field(description="The objects and their places; may be empty.")]
    segmentation: Annotated[
        str | None,
        Field(
            description="Label map: a palette or grey PNG whose values are class ids, 255 for no class; in the "
            "layout's folder or below."
        ),
    ] = None
    background: Annotated[
        Label | None,
        Field(description="Class around the regions where there is no label map: its id, or its name in ADE20K."),
    ] = None
    depth: Annotated[
        str | None,
        Field(description="Depth as a grey picture of 8 or 16 bits, near = bright; in the layout's folder or below."),
    ] = None
    control: Annotated[
        dict[str, str],
        Field(
            description="Finished control pictures by kind, which are shown as they are; in the layout's folder or "
            f"below. {KINDS}",
            json_schema_extra={"propertyNames": {"enum": list(FINISHED)}},
        ),
    ] = Field(default_factory=dict)


def read_layout_file(path: Path) -> LayoutFile:
    """Raises: RealCompoError: the file is missing or damaged, or a field is wrong; the message names it."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RealCompoError(f"cannot read the layout {path}: {error.strerror}") from error
    try:
        return read_json(LayoutFile, content)
    except RealCompoError as error:
        raise RealCompoError(f"{path}: {error}") from error


def layout_schema() -> dict[str, Any]:
    """The JSON Schema of layout.json; docs/layout.schema.json holds it."""
    return {"$schema": SCHEMA_DIALECT, **LayoutFile.model_json_schema()}
