"""Pictures of scenes, for people: objects in flat light, each in its region's colour, with its outline and phrase."""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from runtime.layouts.pictures import draw_layout, region_colors
from runtime.scenes.projection import GROUND, Shot

LIGHT = np.array([0.4, 0.8, 0.45])  # towards it, from the world
DARKEST = 0.35  # of a side that faces away from the light
GROUND_GREY, SKY_GREY = 0.8, 0.93


def draw_scene(shot: Shot) -> Figure:
    """What the camera sees, and the regions' outlines over it."""
    layout = shot.layout()
    pixels = shaded(shot, np.array(region_colors(layout)))
    return draw_layout(Image.fromarray((255 * pixels).round().astype(np.uint8)), layout.prompt or "", layout)


def shaded(shot: Shot, colors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(H,W,3) in 0..1: each object in a colour (n,3), darker where it faces away from the light."""
    image = np.where(shot.shown == GROUND, GROUND_GREY, SKY_GREY)[..., None].repeat(3, axis=2)
    for i, (solid, drawn) in enumerate(zip(shot.solids, shot.drawn, strict=True)):
        seen = shot.shown[drawn.window] == i
        corners = solid.mesh.points[solid.mesh.triangles[drawn.triangle[seen]]]
        image[drawn.window][seen] = _light(corners, shot.view.position)[:, None] * colors[i]
    return image


def _light(corners: NDArray[np.float64], eye: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,): how bright triangles (n,3,3) are, seen from where the eye is."""
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    towards = ((eye - corners[:, 0]) * normals).sum(axis=1, keepdims=True)
    normals *= np.sign(towards) / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    return DARKEST + (1 - DARKEST) * np.clip(normals @ LIGHT / np.linalg.norm(LIGHT), 0, 1)
