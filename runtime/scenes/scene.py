"""A scene in metres, and the layout that a camera sees of it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from runtime.errors import FieldError, RealCompoError
from runtime.layouts.layout import Layout
from runtime.layouts.palette import class_id
from runtime.scenes.arranging import place_objects
from runtime.scenes.camera import framing, view_of
from runtime.scenes.graph import read_relations
from runtime.scenes.parts import Camera, Relation, SceneObject
from runtime.scenes.projection import About, Shot, shoot
from runtime.scenes.schema import SceneFile, read_scene_file
from runtime.scenes.solids import Solid
from runtime.words import MAX_REGIONS


@dataclass(frozen=True, eq=False)
class Scene:
    """Objects in a world of metres, and a camera.

    Args:
        objects: what is there; those without a position are put where the relations have room.
        relations: how objects stand to one another, as the camera sees them.
        camera: where it is seen from; by default from before it, so that the objects fill the picture.
        prompt: what to draw.
        ground, background: classes, in the segmentation, of the ground and of what is behind it: an id, or a name of
            ADE20K.

    Raises:
        FieldError: a relation that cannot hold, or a value that is wrong.
    """

    objects: Sequence[SceneObject]
    relations: Sequence[Relation] = ()
    camera: Camera | None = None
    prompt: str | None = None
    ground: int | str | None = None
    background: int | str | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.objects) <= MAX_REGIONS:
            raise FieldError("objects", f"the scene has {len(self.objects)} objects; give 1 to {MAX_REGIONS}")
        for field in ("ground", "background"):
            if getattr(self, field) is not None:
                class_id(getattr(self, field), field)
        assert self.solids  # which are placed now, so that what cannot be is said now

    @classmethod
    def from_file(cls, path: Path | str) -> "Scene":
        """Read a scene.json.

        Raises:
            RealCompoError: the file is missing or damaged, or a field is wrong; the message names it.
        """
        file = read_scene_file(Path(path))
        with naming(path):
            return cls.of(file)

    @classmethod
    def of(cls, file: SceneFile) -> "Scene":
        """Raises: FieldError: a relation that cannot hold, or a value that is wrong."""
        return cls(file.objects, file.relations, file.camera, file.prompt, file.ground, file.background)

    @cached_property
    def solids(self) -> list[Solid]:
        """The objects in their places."""
        return place_objects(self.objects, read_relations(self.objects, self.relations), self.camera)

    def shot(self, size: tuple[int, int]) -> Shot:
        """What the camera sees, in a picture of (H, W).

        Raises:
            FieldError: an object that is not seen, or not all before the camera.
        """
        corners = np.concatenate([solid.mesh.points for solid in self.solids])
        view = view_of(self.camera, size) if self.camera else framing(corners, size)
        return shoot(self.solids, view, size, About(self.prompt, self.ground, self.background))

    def layout(self, size: tuple[int, int], place: str = "box") -> Layout:
        """Of a picture of (H, W): a region an object, the nearer on the higher layer; depth; a segmentation, if there
        are labels.

        Args:
            place: of the regions: `box`, around all of an object that is in the picture, or `mask`, what is seen of it.

        Raises:
            FieldError: an object that is not seen, or not all before the camera.
        """
        return self.shot(size).layout(place)


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Say of a wrong field in which file it is."""
    try:
        yield
    except FieldError as error:
        raise RealCompoError(f"{path}: {error.field}: {error}") from error
