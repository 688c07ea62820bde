"""Boxes are around what is drawn of an object in the picture, also where it leaves it."""

from itertools import count, islice
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from runtime.errors import FieldError
from runtime.scenes import Camera, Scene, SceneObject
from runtime.scenes.clipping import in_picture
from runtime.scenes.projection import Shot

SIDE = 256
SHAPES = ("cuboid", "sphere", "cone", "torus")
PLANK = SceneObject("a plank", (6, 0.1, 0.2), rotation=(0, 0, 30), position=(3, 0, 0))


def drawn_box(shot: Shot, number: int) -> np.ndarray:
    """Around an object's pixels, whatever covers it."""
    drawn, pixels = shot.drawn[number], np.zeros((SIDE, SIDE), dtype=bool)
    pixels[drawn.window] = drawn.nearness > 0
    rows, columns = np.nonzero(pixels)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / SIDE


def shots(amount: int) -> list[Shot]:
    """Of two things of any size and turn near the picture, and some of them partly outside it."""

    def one(rng: np.random.Generator) -> Scene:
        def thing() -> SceneObject:
            turn, place = rng.uniform(-180, 180, 3), rng.uniform((-4, 0, -4), (4, 2, 2))
            size = rng.uniform(0.2, 3, 3)
            return SceneObject("a thing", tuple(size), None, str(rng.choice(SHAPES)), tuple(place), tuple(turn))

        return Scene([thing(), thing()], camera=Camera(tuple(rng.uniform((-2, 1, 5), (2, 4, 8))), (0, 1, 0), 40))

    def found() -> Any:
        for seed in count():
            try:
                yield one(np.random.default_rng(seed)).shot((SIDE, SIDE))
            except FieldError:  # one is not seen, or not all before the camera
                continue

    return list(islice(found(), amount))


def test_boxes_are_around_the_pixels() -> None:
    """But for points that are finer than pixels: 0.02 of the picture."""
    pairs = [(shot, i) for shot in shots(100) for i in range(2)]
    boxes, pixels = (
        np.array(one) for one in zip(*((shot.box(i), drawn_box(shot, i)) for shot, i in pairs), strict=True)
    )
    assert ((boxes <= 0) | (boxes >= 1)).any(axis=1).sum() > 40  # leave the picture
    half = 0.5 / SIDE
    assert (boxes[:, :2] <= pixels[:, :2] + half + 1e-9).all() and (boxes[:, 2:] >= pixels[:, 2:] - half - 1e-9).all()
    np.testing.assert_allclose(boxes, pixels, atol=0.02)
    assert np.median(abs(boxes - pixels)) < 1 / SIDE


def test_a_plank_that_leaves_on_the_right() -> None:
    shot = Scene([PLANK], camera=Camera((0, 1.5, 4), (0, 1, 0))).shot((SIDE, SIDE))
    assert shot.box(0)[1] > 0.5
    np.testing.assert_allclose(shot.box(0), drawn_box(shot, 0), atol=1.5 / SIDE)


def test_what_fills_the_picture_has_it_as_its_box() -> None:
    """No corner of it is in the picture, and no edge."""
    wall = SceneObject("a wall", (50, 50, 1), position=(0, 0, 3))
    assert Scene([wall], camera=Camera((0, 1.5, 4), (0, 1.5, 0))).shot((SIDE, SIDE)).box(0) == (0, 0, 1, 1)


def test_triangles_are_cut_as_linear_programs_say() -> None:
    """The farthest point of a triangle within the square, each way: by SciPy."""
    rng = np.random.default_rng(0)
    for triangle in rng.uniform(-1.5, 2.5, (60, 3, 2)):
        inside = in_picture(triangle[None])
        for axis in range(2):
            for sign in (1, -1):
                found = linprog(
                    sign * triangle[:, axis],
                    np.vstack([triangle.T, -triangle.T]),
                    [1, 1, 0, 0],
                    np.ones((1, 3)),
                    [1],
                )
                assert found.success == bool(len(inside))
                if found.success:
                    assert (sign * inside[:, axis]).min() == pytest.approx(found.fun, abs=1e-9)
