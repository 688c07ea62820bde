"""What a scene is made of: objects, relations between them, and a camera; as scene.json and as Python have them.

Metres and degrees. x is to the right, y up, and z towards the viewer; the ground is y = 0.
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from runtime.errors import FieldError
from runtime.layouts.palette import class_id
from runtime.layouts.schema import Label
from runtime.scenes.relations import RELATIONS, TO_CAMERA
from runtime.scenes.shapes import SHAPES

Triple = tuple[float, float, float]

FARTHEST = 1e5  # metres: beyond, coordinates lose the digits that relations are told by
SMALLEST = 1e-4
WIDEST = 150.0  # degrees
CAMERA = "camera"  # what an object may face besides other objects
_FORBID = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class SceneObject:
    """An object: its words, its shape, how large it is, and, unless relations say it, where it stands.

    Raises:
        FieldError: a number out of its range, an unknown shape or label.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID

    phrase: Annotated[str, Field(description="The object's words, which the prompt contains too.")]
    size: Annotated[Triple, Field(description="Width, height and depth in metres, before it is turned.")]
    name: Annotated[str | None, Field(description="What relations call it. Default: its phrase.")] = None
    shape: Annotated[str, Field(description=f"Its shape: {', '.join(SHAPES)}.")] = "cuboid"
    position: Annotated[
        Triple | None,
        Field(description="Where it stands: x, y, z of the middle of its underside. Default: where relations put it."),
    ] = None
    rotation: Annotated[
        Triple,
        Field(description="Degrees about x, y and z, turned about z first and y last; 0, 90, 0 turns its front to x."),
    ] = (0.0, 0.0, 0.0)
    label: Annotated[
        Label | None, Field(description="Its class in the segmentation: its id, or its name in ADE20K.")
    ] = None
    tokens: Annotated[
        list[int] | None,
        Field(description="Indices of the prompt's tokens that speak of the object, instead of those its words match."),
    ] = None

    def __post_init__(self) -> None:
        if not self.phrase.strip():
            raise FieldError("phrase", "an object's phrase is empty; give its words, such as 'a red ball'")
        if self.id == CAMERA:
            raise FieldError("name", f"{CAMERA!r} is what the camera is called; give the object another name")
        if self.shape not in SHAPES:
            raise FieldError(
                "shape", f"{self.id!r} has the unknown shape {self.shape!r}; use one of {', '.join(SHAPES)}"
            )
        _check_numbers("size", self.id, self.size, SMALLEST)
        _check_numbers("rotation", self.id, self.rotation)
        if self.position is not None:
            _check_numbers("position", self.id, self.position)
            if self.position[1] < 0:
                raise FieldError("position", f"{self.id!r} stands at y = {self.position[1]:g}, below the ground at 0")
        if self.label is not None:
            class_id(self.label)

    @property
    def id(self) -> str:
        """What relations and errors call it."""
        return self.name or self.phrase


@dataclass(frozen=True)
class Relation:
    """How one object stands to another, as the camera sees them.

    Raises:
        FieldError: an unknown relation, or a gap that it has not.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID

    subject: Annotated[str, Field(description="The object that is placed: its name or phrase.")]
    relation: Annotated[str, Field(description=f"How it stands: {', '.join(RELATIONS)}.")]
    object: Annotated[
        str, Field(description=f"The object that it stands to: its name or phrase; after facing also {CAMERA}.")
    ]
    gap: Annotated[
        float | None, Field(description="Metres left free between both, at least. Default: a fifth of the smaller one.")
    ] = None

    def __post_init__(self) -> None:
        if self.relation not in RELATIONS:
            raise FieldError(
                "relation", f"the relation {self.relation!r} is unknown; use one of {', '.join(RELATIONS)}"
            )
        if self.subject == self.object:
            raise FieldError("object", f"{self.subject!r} cannot be {self.relation} itself; name another object")
        if self.object == CAMERA and self.relation not in TO_CAMERA:
            raise FieldError("object", f"an object can be {' or '.join(TO_CAMERA)} the camera, not {self.relation} it")
        if self.gap is not None:
            self._check_gap(self.gap)

    def _check_gap(self, gap: float) -> None:
        if not RELATIONS[self.relation].has_gap:
            raise FieldError("gap", f"{self.relation!r} leaves no gap; leave the gap out")
        if not 0 <= gap <= FARTHEST:
            raise FieldError("gap", f"the gap is {gap:g} metres; give 0 to {FARTHEST:g}")


@dataclass(frozen=True)
class Camera:
    """Where a scene is seen from.

    Raises:
        FieldError: a number out of its range, or a camera on the ground or without a direction.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID

    position: Annotated[Triple, Field(description="Where it is, in metres.")]
    look_at: Annotated[Triple, Field(description="The point in the middle of the picture.")]
    field_of_view: Annotated[float, Field(description="Degrees from the picture's top to its bottom.")] = 40.0

    def __post_init__(self) -> None:
        _check_numbers("position", CAMERA, self.position)
        _check_numbers("look_at", CAMERA, self.look_at)
        if self.position[1] <= 0:
            raise FieldError("position", f"the camera is at y = {self.position[1]:g}; put it above the ground at 0")
        if math.dist(self.position, self.look_at) < SMALLEST:
            raise FieldError("look_at", "the camera looks at where it is; give it another point to look at")
        if not 1 <= self.field_of_view <= WIDEST:
            raise FieldError("field_of_view", f"the camera sees {self.field_of_view:g} degrees; give 1 to {WIDEST:g}")


def _check_numbers(field: str, name: str, numbers: Triple, least: float = -FARTHEST) -> None:
    if len(numbers) != 3 or not all(least <= number <= FARTHEST for number in numbers):
        raise FieldError(
            field, f"the {field} of {name!r} is {numbers}; give three numbers of {least:g} to {FARTHEST:g}"
        )
