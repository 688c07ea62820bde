"""scene.json: what may stand in it, as a pydantic model and as a JSON Schema."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from runtime.errors import RealCompoError
from runtime.json_text import read_json
from runtime.layouts.schema import SCHEMA_DIALECT, Label
from runtime.scenes.parts import Camera, Relation, SceneObject
from runtime.words import MAX_REGIONS

MOST_RELATIONS = 200


class SceneFile(BaseModel):
    """Objects in metres and a camera: x to the right, y up, z towards the viewer, the ground at y = 0."""

    model_config = ConfigDict(extra="forbid", title="RealCompo scene")

    schema_: Annotated[str | None, Field(alias="$schema", description="For editors: where this schema is.")] = None
    prompt: Annotated[str | None, Field(description="What to draw.", max_length=4000)] = None
    camera: Annotated[
        Camera | None,
        Field(description="Where it is seen from. Default: from before it, so that the objects fill the picture."),
    ] = None
    objects: Annotated[list[SceneObject], Field(description="What is there.", max_length=MAX_REGIONS)]
    relations: Annotated[
        list[Relation],
        Field(description="How objects stand to one another, as the camera sees them.", max_length=MOST_RELATIONS),
    ] = []
    ground: Annotated[
        Label | None, Field(description="Class of the ground in the segmentation: its id, or its name in ADE20K.")
    ] = None
    background: Annotated[
        Label | None, Field(description="Class of what is behind the ground: its id, or its name in ADE20K.")
    ] = None


def read_scene_file(path: Path) -> SceneFile:
    """Raises: RealCompoError: the file is missing or damaged, or a field is wrong; the message names it."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RealCompoError(f"cannot read the scene {path}: {error.strerror}") from error
    try:
        return read_json(SceneFile, content)
    except RealCompoError as error:
        raise RealCompoError(f"{path}: {error}") from error


def scene_schema() -> dict[str, Any]:
    """The JSON Schema of scene.json; docs/scene.schema.json holds it."""
    return {"$schema": SCHEMA_DIALECT, **SceneFile.model_json_schema()}
