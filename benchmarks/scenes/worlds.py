"""Random 3D scenes of Tabletop's objects, and what they ask of a picture."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, pairwise

import numpy as np

from benchmarks.tabletop.scenes import COLORS, KINDS, SIDE, Thing, caption_of
from benchmarks.tabletop.scenes import Scene as Picture
from runtime import Layout, RealCompoError
from runtime.scenes import Camera, Relation, Scene, SceneObject
from runtime.scenes.camera import view_of
from runtime.scenes.projection import Shot

SEED = 2_000_003
MOST_OBJECTS = 3
SHAPES = {"ball": "sphere", "cube": "cuboid", "cone": "cone", "ring": "torus"}
RING_DEPTH = 0.3  # of its width
SIZES = (1.0, 1.4)  # metres; so far away, a quarter to two fifths of the picture
CAMERA = Camera(position=(0, 2.2, 5.2), look_at=(0, 0.7, 0))
RELATIONS = ("left of", "right of", "in front of", "behind", "next to", "on")
FLAT = ("cube",)  # what others can stand on
LEAST_SEEN = 0.75  # of an object, by pixels
SIZE = (SIDE, SIDE)
VIEW = view_of(CAMERA, SIZE)


@dataclass(frozen=True)
class World:
    """A scene, what the camera sees of it, and the objects and boxes that this asks of a picture."""

    scene: Scene
    shot: Shot
    asked: Picture

    @property
    def layout(self) -> Layout:
        return self.shot.layout()


def worlds(amount: int) -> list[World]:
    """So many, of one to three objects of different kinds: depth then tells which of the caption's goes where."""
    return [next(_worlds(np.random.default_rng((SEED, i)), i % MOST_OBJECTS + 1)) for i in range(amount)]


def _worlds(rng: np.random.Generator, objects: int) -> Iterator[World]:
    """Those whose objects are all in the picture, and not much hidden."""
    for _ in count():
        try:
            scene, names = _sample(rng, objects)
            shot = scene.shot(SIZE) if _is_inside(scene) else None
        except RealCompoError:  # no room, or an object behind another
            continue
        if shot and all(_is_seen(shot, i) for i in range(objects)):
            things = tuple(Thing(kind, color, shot.box(i)) for i, (color, kind) in enumerate(names))
            yield World(scene, shot, Picture(scene.prompt or "", "scene", things))


def _sample(rng: np.random.Generator, amount: int) -> tuple[Scene, list[tuple[str, str]]]:
    """A scene, and the (colour, kind) of its objects: the first anywhere, each other one related to that before it."""
    kinds = [str(kind) for kind in rng.choice(KINDS, amount, replace=False)]
    names = [(str(rng.choice(list(COLORS))), kind) for kind in kinds]
    objects = [_object(rng, color, kind, i == 0) for i, (color, kind) in enumerate(names)]
    relations = [
        Relation(after.id, _relation(rng, kind), before.id)
        for (before, after), kind in zip(pairwise(objects), kinds, strict=False)
    ]
    caption = caption_of([(1, color, kind) for color, kind in names], None)
    return Scene(objects, relations, CAMERA, caption), names


def _object(rng: np.random.Generator, color: str, kind: str, is_first: bool) -> SceneObject:
    size = float(rng.uniform(*SIZES))
    depth = RING_DEPTH * size if kind == "ring" else size
    place = (float(rng.uniform(-1.2, 1.2)), 0.0, float(rng.uniform(-1, 1))) if is_first else None
    turn = float(rng.uniform(-40, 40))
    return SceneObject(
        f"a {color} {kind}", (size, size, depth), shape=SHAPES[kind], position=place, rotation=(0, turn, 0)
    )


def _relation(rng: np.random.Generator, below: str) -> str:
    """How the next object stands to one of a kind."""
    return str(rng.choice([name for name in RELATIONS if name != "on" or below in FLAT]))


def _is_inside(scene: Scene) -> bool:
    """Whether all objects are in the picture as a whole."""
    edges = VIEW.project(np.concatenate([solid.mesh.points for solid in scene.solids]))
    return bool(edges.min() > 0 and edges.max() < 1)


def _is_seen(shot: Shot, number: int) -> bool:
    """Whether most of an object is."""
    return bool((shot.shown == number).sum() >= LEAST_SEEN * (shot.drawn[number].nearness > 0).sum())
