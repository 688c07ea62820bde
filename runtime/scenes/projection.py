"""From solids before a camera to a layout: boxes, which of them covers which, depth and labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FieldError
from runtime.layouts.geometry import Box
from runtime.layouts.layout import Layout, Region
from runtime.layouts.palette import UNLABELLED, class_id
from runtime.scenes.camera import View
from runtime.scenes.clipping import in_picture
from runtime.scenes.raster import Drawn, Grey, common, draw, ground_nearness
from runtime.scenes.solids import Solid

NEAREST = 1e-3  # metres before the camera that an object has to stay away; of a smaller one a share of its extent
PLACES = ("box", "mask")
NOTHING, GROUND = -2, -1  # what pixels show besides objects


@dataclass(frozen=True)
class About:
    """What a scene says of its picture as a whole."""

    prompt: str | None = None
    ground: int | str | None = None
    background: int | str | None = None


@dataclass(frozen=True, eq=False)
class Shot:
    """What a camera sees of solids, in a picture of (H, W)."""

    solids: Sequence[Solid]
    view: View
    size: tuple[int, int]
    about: About
    drawn: Sequence[Drawn]  # each solid alone

    @cached_property
    def _seen(self) -> tuple[Grey, NDArray[np.int64]]:
        """The nearness of what each pixel shows, and its number."""
        nearness = ground_nearness(self.view, self.size)
        numbers = np.where(nearness > 0, GROUND, NOTHING)
        for i, one in enumerate(self.drawn):
            # Of things as near as each other the last: what stands on the ground covers it
            covers = (one.nearness > 0) & (one.nearness >= nearness[one.window])
            nearness[one.window][covers] = one.nearness[covers]
            numbers[one.window][covers] = i
        return nearness, numbers

    @property
    def nearness(self) -> Grey:
        """(H,W): one over the metres along the line of sight; 0 above the horizon."""
        return self._seen[0]

    @property
    def shown(self) -> NDArray[np.int64]:
        """(H,W): the number of the object that each pixel shows, or GROUND or NOTHING."""
        return self._seen[1]

    @property
    def depth(self) -> NDArray[np.float32]:
        """(H,W) in 0..1, near is bright: nearness, the farthest as 0 and the nearest as 1, as estimators of depth have
        it."""
        low, high = self.nearness.min(), self.nearness.max()
        return ((self.nearness - low) / max(high - low, 1e-30)).astype(np.float32)

    @cached_property
    def layers(self) -> list[int]:
        """A layer each: of two objects where both would be seen, the one that is has the higher one."""
        left, found = list(range(len(self.drawn))), [0] * len(self.drawn)
        for layer in range(len(left)):
            hindmost = [i for i in left if not any(self._covers(i, other) for other in left if other != i)]
            chosen = min(hindmost or left, key=lambda i: self.drawn[i].nearness.max())
            found[chosen] = layer
            left.remove(chosen)
        return found

    def _covers(self, one: int, other: int) -> bool:
        """Whether it is nearer in most of the pixels that both have."""
        first, second = self.drawn[one], self.drawn[other]
        window = common(first.window, second.window)
        a, b = (drawn.nearness[drawn.part(window)] for drawn in (first, second))
        both = (a > 0) & (b > 0)
        return bool((a[both] > b[both]).sum() * 2 > both.sum())

    def box(self, number: int) -> Box:
        """Around all of an object that is in the picture, hidden or not."""
        mesh = self.solids[number].mesh
        inside = in_picture(self.view.project(mesh.points)[mesh.triangles])
        (x0, y0), (x1, y1) = inside.min(axis=0), inside.max(axis=0)
        return float(x0), float(y0), float(x1), float(y1)

    @property
    def labels(self) -> NDArray[np.uint8] | None:
        """(H,W) class ids; None where nothing has a label."""
        given = [
            self.about.background,
            self.about.ground,
            *(solid.object.label for solid in self.solids),
        ]  # from NOTHING on
        if all(label is None for label in given):
            return None
        ids = [UNLABELLED if label is None else class_id(label) for label in given]
        return np.array(ids, dtype=np.uint8)[self.shown - NOTHING]

    def layout(self, place: str = "box") -> Layout:
        """See `Scene.layout`."""
        if place not in PLACES:
            raise FieldError("place", f"place {place!r} is unknown; use {' or '.join(PLACES)}")
        regions = [self._region(i, place) for i in range(len(self.solids))]
        return Layout(regions, self.about.prompt, self.labels, self.depth)

    def _region(self, number: int, place: str) -> Region:
        one, layer = self.solids[number].object, self.layers[number]
        where = {"box": self.box(number)} if place == "box" else {"mask": self.shown == number}
        return Region(one.phrase, **where, tokens=one.tokens, label=one.label, layer=layer)


def shoot(solids: Sequence[Solid], view: View, size: tuple[int, int], about: About) -> Shot:
    """Raises: FieldError: an object that is not seen, or not all before the camera."""
    for i, solid in enumerate(solids):
        points = solid.mesh.points
        if view.distances(points).min() < NEAREST * min(1.0, float(np.ptp(points, axis=0).max())):
            raise FieldError(
                f"objects.{i}", f"{solid.object.id!r} is not all before the camera; move it, or the camera away from it"
            )
    shot = Shot(solids, view, size, about, [draw(solid.mesh, view, size) for solid in solids])
    for i, solid in enumerate(solids):
        if not (shot.shown == i).any():
            raise FieldError(f"objects.{i}", f"{solid.object.id!r} is not seen: {_why(shot, i)}")
    return shot


def _why(shot: Shot, number: int) -> str:
    one, mesh = shot.drawn[number], shot.solids[number].mesh
    pixels = one.nearness > 0
    if not len(in_picture(shot.view.project(mesh.points)[mesh.triangles])):
        return "it is outside the picture; move it, or the camera"
    if not pixels.any():
        size = " x ".join(f"{metres:g}" for metres in shot.solids[number].object.size)
        far = float(f"{shot.view.distances(mesh.points).min():.3g}")
        return f"its {size} metres are too small {far:g} metres away; make it larger, or put it or the camera nearer"
    covering = [shot.solids[i].object.id for i in np.unique(shot.shown[one.window][pixels]) if i >= 0]
    return f"{' and '.join(map(repr, covering[:2])) or 'the ground'} covers it; move one of them, or the camera"
