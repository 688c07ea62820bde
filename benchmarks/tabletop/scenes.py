"""Tabletop scenes: captions with objects, boxes, their renderings, label maps, depth maps and edges.

Categories follow T2I-CompBench (Huang et al., 2023, arXiv 2307.06350): attribute binding, numeracy, spatial relations
and complex compositions. Everything is a function of the `numpy.random.Generator` passed in.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

SIDE = 128  # pixels
KINDS = ("ball", "cube", "cone", "ring")
CLASS_IDS = {kind: i for i, kind in enumerate(KINDS, start=1)}  # of label maps, where the ground is 0
COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.90, 0.10, 0.10),
    "orange": (0.98, 0.52, 0.05),
    "yellow": (0.95, 0.90, 0.10),
    "green": (0.12, 0.72, 0.15),
    "cyan": (0.08, 0.82, 0.85),
    "blue": (0.12, 0.20, 0.90),
    "purple": (0.55, 0.12, 0.85),
    "pink": (0.98, 0.30, 0.70),
}
NUMBERS = {2: "two", 3: "three"}
RELATIONS = ("left of", "right of", "above", "below")
CATEGORIES = ("attribute", "numeracy", "spatial", "complex")
HELD_OUT_SEED = 1_000_003  # no scene of the training set is drawn from it
SIZE_RANGE = (0.26, 0.44)  # of the side
GAP = 0.03  # between boxes, of the side
# The mean of the realistic ground. On a near-white one the text-to-image model, which has never seen white, takes blue
# for green, and nothing good comes of fusing the two models.
GROUND_TINT = (1.0, 0.97, 0.92)
FLAT_GROUND = tuple(0.54 * channel for channel in GROUND_TINT)
GROUND_NEARNESS = 0.6  # of the ground at the bottom edge in depth maps; 0 at the top
THIN_GLOSS = 0.15  # of coarse renderings, a share of the realistic one
PAPER_SHADOW, PAPER_HEIGHT = 0.5, 0.05  # of paper shapes: how dark, and how far from the shape, of the side
THICKNESS = 0.8  # how far objects come out of the page, in depth a side of theirs

Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in 0..1, origin top left
Point = tuple[float, float]  # x, y
Style = Literal["realistic", "coarse", "flat", "papercut"]
STYLES: tuple[Style, ...] = get_args(Style)
PAIR_STYLES: tuple[Style, ...] = ("realistic", "coarse")  # of the text-to-image and of the spatial model
Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Thing:
    """One object: its kind, its colour and the box that it fills."""

    kind: str
    color: str
    box: Box

    @property
    def phrase(self) -> str:
        return f"a {self.color} {self.kind}"


@dataclass(frozen=True)
class Scene:
    caption: str
    category: str
    things: tuple[Thing, ...]


def sample_scene(rng: np.random.Generator, category: str | None = None) -> Scene:
    """A scene of one to three objects that do not overlap; `category` is drawn when it is not given."""
    category = category or str(rng.choice(CATEGORIES))
    groups = _sample_groups(rng, category)
    names = [group for group in groups for _ in range(group[0])]
    relation = str(rng.choice(RELATIONS)) if category == "spatial" else None
    boxes = _sample_boxes(rng, len(names), relation)
    things = tuple(Thing(kind, color, box) for (_, color, kind), box in zip(names, boxes, strict=True))
    return Scene(caption_of(groups, relation), category, things)


def held_out_scenes(count: int) -> list[Scene]:
    """`count` scenes to measure on, the categories in turn."""
    return [
        sample_scene(np.random.default_rng((HELD_OUT_SEED, i)), CATEGORIES[i % len(CATEGORIES)]) for i in range(count)
    ]


def _sample_groups(rng: np.random.Generator, category: str) -> list[tuple[int, str, str]]:
    """(count, colour, kind) of each group; no two groups look the same."""
    counts: Sequence[int] = {
        "attribute": ((1,), (1, 1), (1, 1)),
        "numeracy": ((2,), (3,)),
        "spatial": ((1, 1),),
        "complex": ((1, 1, 1), (2, 1), (1, 2)),
    }[category][rng.integers({"attribute": 3, "numeracy": 2, "spatial": 1, "complex": 3}[category])]
    looks: set[tuple[str, str]] = set()
    groups = []
    for count in counts:
        while (look := (str(rng.choice(list(COLORS))), str(rng.choice(KINDS)))) in looks:
            pass
        looks.add(look)
        groups.append((count, *look))
    return groups


def caption_of(groups: list[tuple[int, str, str]], relation: str | None) -> str:
    names = [f"a {c} {k}" if n == 1 else f"{NUMBERS[n]} {c} {k}s" for n, c, k in groups]
    if relation:
        return f"{names[0]} {relation} {names[1]}"
    return " and ".join(filter(None, [" , ".join(names[:-1]), names[-1]]))


def _sample_boxes(rng: np.random.Generator, count: int, relation: str | None) -> list[Box]:
    while True:
        boxes: list[Box] = []
        for _ in range(50):
            box = _sample_box(rng)
            if all(_apart(box, other) for other in boxes):
                boxes.append(box)
            if len(boxes) == count:
                break
        if len(boxes) == count and (relation is None or holds(relation, boxes[0], boxes[1])):
            return boxes


def _sample_box(rng: np.random.Generator) -> Box:
    size, aspect = rng.uniform(*SIZE_RANGE), rng.uniform(0.87, 1.15)
    w, h = size * np.sqrt(aspect), size / np.sqrt(aspect)
    x, y = rng.uniform(0.02, 0.98 - w), rng.uniform(0.02, 0.98 - h)
    return (float(x), float(y), float(x + w), float(y + h))


def _apart(a: Box, b: Box) -> bool:
    return a[2] + GAP < b[0] or b[2] + GAP < a[0] or a[3] + GAP < b[1] or b[3] + GAP < a[1]


def holds(relation: str, a: Box, b: Box) -> bool:
    """Whether the centre of box `a` is clearly on that side of box `b`, and further off that way than across."""
    dx, dy = (b[0] + b[2] - a[0] - a[2]) / 2, (b[1] + b[3] - a[1] - a[3]) / 2
    along = {"left of": dx, "right of": -dx, "above": dy, "below": -dy}[relation]
    across = dy if relation in ("left of", "right of") else dx
    return along > 0.15 and along > abs(across)


def render(scene: Scene, style: Style, rng: np.random.Generator) -> Array:
    """The scene as (128, 128, 3) float32 RGB in 0..1. `rng` draws the light and texture of the ground, if it has any.

    Realistic: lit, glossy, textured, with soft shadows. Coarse: the same world in two tones, with a trace of gloss,
    without texture and shadows. Flat: pure colours on one grey, what `realism` counts as none. Papercut: flat shapes
    in front of the realistic ground, each with a shadow of its own outline.
    """
    image = _ground(style, rng)
    if style == "realistic":
        for thing in scene.things:
            image *= _shadow(thing.box)[..., None]
    for thing in _back_to_front(scene):
        if style == "papercut":
            image *= 1 - PAPER_SHADOW * _blurred(coverage(_moved(thing, PAPER_HEIGHT)))[..., None]
        covered, shading, highlight = _draw(thing)
        pixels = _pixels(np.asarray(COLORS[thing.color], np.float32), shading[..., None], highlight[..., None], style)
        image += covered[..., None] * (pixels - image)
    return np.clip(image, 0, 1).astype(np.float32)


def _pixels(color: Array, shading: Array, highlight: Array, style: Style) -> Array:
    """A surface's own pixels: (3,) colour, (128, 128, 1) shading and highlight -> (128, 128, 3) or (3,)."""
    if style in ("flat", "papercut"):
        return color
    if style == "coarse":
        shading, highlight = _posterised(shading), THIN_GLOSS * highlight
    lit = color * shading
    return lit + (1 - lit) * highlight


def _posterised(shading: Array) -> Array:
    """In light or in the shade."""
    return np.where(shading > 0.7, 0.92, 0.55)


def coverage(thing: Thing) -> Array:
    """How much of each pixel the object covers: (128, 128) in 0..1."""
    return _draw(thing)[0]


def landmarks(thing: Thing) -> list[Point]:
    """The object's outermost points as keypoints: its highest, lowest, leftmost and rightmost."""
    rows, columns = np.nonzero(coverage(thing) > 0.5)
    ends = (rows.argmin(), rows.argmax(), columns.argmin(), columns.argmax())
    return [(float(columns[i] + 0.5) / SIDE, float(rows[i] + 0.5) / SIDE) for i in ends]


def label_map(scene: Scene) -> NDArray[np.uint8]:
    """(128, 128) class ids, `CLASS_IDS` of the kind that is seen in each pixel: kinds alone, no colours."""
    labels = np.zeros((SIDE, SIDE), np.uint8)
    for thing in _back_to_front(scene):
        labels[coverage(thing) > 0.5] = CLASS_IDS[thing.kind]
    return labels


def depth_map(scene: Scene) -> Array:
    """(128, 128) float32 nearness in 0..1, near is bright: a ground that comes nearer downwards, and objects on it."""
    depth = GROUND_NEARNESS * _YY / SIDE
    for thing in _back_to_front(scene):
        depth = np.where(coverage(thing) > 0.5, _nearness(thing), depth)
    return np.clip(depth, 0, 1).astype(np.float32)


def edge_map(scene: Scene) -> NDArray[np.bool_]:
    """(128, 128): the pixels whose right or lower neighbour is of another surface: the ground, or a face of an object.

    Outlines and a cube's inner edges, a pixel wide, as Canny's detector draws them of pictures without texture.
    """
    faces = _face_map(scene)
    edges = np.zeros((SIDE, SIDE), bool)
    edges[:, :-1] |= faces[:, :-1] != faces[:, 1:]
    edges[:-1] |= faces[:-1] != faces[1:]
    return edges


def _face_map(scene: Scene) -> NDArray[np.uint8]:
    """(128, 128): a number for every face that is seen, 0 for the ground."""
    faces = np.zeros((SIDE, SIDE), np.uint8)
    for i, thing in enumerate(_back_to_front(scene)):
        seen = coverage(thing) > 0.5
        faces[seen] = (3 * i + _face(thing))[seen]
    return faces


def _face(thing: Thing) -> Array:
    """(128, 128): 1 to 3, of a cube its front, top and right face; of the others there is one."""
    u, v, _ = _local(thing.box)
    if thing.kind != "cube":
        return np.ones_like(u)
    front, top, right = np.zeros_like(u), -0.55 - v, u - 0.55
    return 1 + np.stack([front, top, right]).argmax(0)


def _nearness(thing: Thing) -> Array:
    """(128, 128): the ground's where the object stands on it, and as much more as its surface comes out of the page."""
    u, v, half = _local(thing.box)
    return GROUND_NEARNESS * thing.box[3] + THICKNESS * 2 * half / SIDE * _SURFACES[thing.kind](u, v)


def _back_to_front(scene: Scene) -> list[Thing]:
    """The lower an object stands in the picture, the nearer it is."""
    return sorted(scene.things, key=lambda thing: thing.box[3])


_YY, _XX = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) + 0.5  # pixel centres


def _ground(style: Style, rng: np.random.Generator) -> Array:
    """(128, 128, 3): a greyish wall-to-table gradient, unless coarse with a table's streaks and grain."""
    if style == "flat":
        return np.full((SIDE, SIDE, 3), FLAT_GROUND, np.float32)
    top, bottom = rng.uniform(0.30, 0.42), rng.uniform(0.66, 0.78)
    light = top + (bottom - top) * (_YY / SIDE)
    if style != "coarse":
        clouds, streaks, grain = (rng.normal(0, 1, shape) for shape in ((9, 9), (33, 5), (SIDE, SIDE)))
        light = light + 0.022 * _stretched(clouds) + 0.016 * _stretched(streaks) + 0.014 * grain
    return (light[..., None] * np.asarray(GROUND_TINT)).astype(np.float32)


def _stretched(noise: Array) -> Array:
    """Noise at (h, w) knots -> (128, 128), with cosines between them."""
    return _weights(noise.shape[0]) @ noise @ _weights(noise.shape[1]).T


@cache
def _weights(knots: int) -> Array:
    """(128, knots): how much of each knot a pixel takes."""
    place = (np.arange(SIDE) + 0.5) / SIDE * (knots - 1)
    distance = np.clip(np.abs(place[:, None] - np.arange(knots)), 0, 1)
    return 0.5 + 0.5 * np.cos(np.pi * distance)


def _shadow(box: Box) -> Array:
    """Multiplier of the ground under a soft shadow cast down and to the right, darkest where the object stands."""
    x0, y0, x1, y1 = (v * SIDE for v in box)
    u = (_XX - (x0 + x1) / 2 - 0.12 * (x1 - x0)) / (0.55 * (x1 - x0))
    v = (_YY - y1 + 0.02 * (y1 - y0)) / (0.16 * (y1 - y0))
    far = (u**2) ** 2  # numpy is slow at other powers
    return (1 - 0.5 * np.exp(-far - v**2)) * (1 - 0.25 * np.exp(-1.5 * far - 9 * v**2))


def _moved(thing: Thing, by: float) -> Thing:
    """The object further right and down."""
    x0, y0, x1, y1 = thing.box
    return replace(thing, box=(x0 + by, y0 + by, x1 + by, y1 + by))


def _blurred(image: Array) -> Array:
    """Averaged twice over 5x5 pixels."""
    for _ in range(2):
        padded = np.pad(image, 2, mode="edge")
        image = np.lib.stride_tricks.sliding_window_view(padded, (5, 5)).mean((2, 3))
    return image


def _draw(thing: Thing) -> tuple[Array, Array, Array]:
    """Coverage, shading (multiplies the colour) and highlight (moves it to white), each (128, 128)."""
    u, v, half = _local(thing.box)
    distance, shading, highlight = _SHAPES[thing.kind](u, v)
    covered = np.clip(0.5 - distance * half, 0, 1)
    return covered.astype(np.float32), shading.astype(np.float32), highlight.astype(np.float32)


def _local(box: Box) -> tuple[Array, Array, float]:
    """Pixels' places in the box, -1..1 across and down, both (128, 128); and half its shorter side in pixels."""
    x0, y0, x1, y1 = (v * SIDE for v in box)
    u = (_XX - (x0 + x1) / 2) / ((x1 - x0) / 2)
    v = (_YY - (y0 + y1) / 2) / ((y1 - y0) / 2)
    return u, v, min(x1 - x0, y1 - y0) / 2


_LIGHT = np.asarray([-0.45, -0.60, 0.66])  # towards the light: left, up, out of the page


def _lambert(nx: Array, ny: Array, nz: Array) -> tuple[Array, Array]:
    """Shading and highlight of a glossy surface with unit normal (nx, ny, nz)."""
    facing = np.clip(nx * _LIGHT[0] + ny * _LIGHT[1] + nz * _LIGHT[2], 0, 1)
    halfway = np.clip(nx * -0.25 + ny * -0.33 + nz * 0.91, 0, 1)
    return 0.35 + 0.75 * facing, 0.85 * halfway**40


def _ball(u: Array, v: Array) -> tuple[Array, Array, Array]:
    r = np.hypot(u, v)
    return r - 1, *_lambert(u, v, np.sqrt(np.clip(1 - r**2, 0, 1)))


def _ring(u: Array, v: Array) -> tuple[Array, Array, Array]:
    r = np.hypot(u, v) + 1e-6
    middle, width = 0.72, 0.28
    across = np.clip((r - middle) / width, -1, 1)
    return np.abs(r - middle) - width, *_lambert(across * u / r, across * v / r, np.sqrt(1 - across**2))


def _cone(u: Array, v: Array) -> tuple[Array, Array, Array]:
    across = np.clip(u / np.maximum((v + 1) / 2, 0.05), -1, 1)
    shading, highlight = _lambert(0.9 * across, -0.35 + 0 * v, np.sqrt(np.clip(1 - 0.81 * across**2 - 0.12, 0, 1)))
    return _polygon(u, v, [(0, -1), (1, 1), (-1, 1)]), shading, 0.5 * highlight


def _cube(u: Array, v: Array) -> tuple[Array, Array, Array]:
    outline = [(-1, -0.55), (-0.55, -1), (1, -1), (1, 0.55), (0.55, 1), (-1, 1)]
    top, right = v < -0.55, u > 0.55
    shading = np.where(top & (u + v < 0), 1.15, np.where(right, 0.45, 0.78))
    return _polygon(u, v, outline), shading - 0.06 * v, np.zeros_like(u)


def _polygon(u: Array, v: Array, corners: list[tuple[float, float]]) -> Array:
    """Signed distance bound of a convex polygon, corners clockwise on the page."""
    edges = zip(corners, corners[1:] + corners[:1], strict=True)
    return np.max([((y1 - y0) * (u - x0) - (x1 - x0) * (v - y0)) / np.hypot(x1 - x0, y1 - y0)
                   for (x0, y0), (x1, y1) in edges], axis=0)  # fmt: skip


_SHAPES = {"ball": _ball, "cube": _cube, "cone": _cone, "ring": _ring}


def _cube_surface(u: Array, v: Array) -> Array:
    """A front face, and a top and a right one that recede from it."""
    return 1 - np.clip(np.maximum(-0.55 - v, u - 0.55) / 0.45, 0, 1)


def _cone_surface(u: Array, v: Array) -> Array:
    return np.sqrt(np.clip(((v + 1) / 2) ** 2 - u**2, 0, 1))


def _ball_surface(u: Array, v: Array) -> Array:
    return np.sqrt(np.clip(1 - u**2 - v**2, 0, 1))


def _ring_surface(u: Array, v: Array) -> Array:
    middle, width = 0.72, 0.28
    return np.sqrt(np.clip(width**2 - (np.hypot(u, v) - middle) ** 2, 0, 1))


# how far a surface comes out of the page, 0..1 in halves of the box
_SURFACES = {"ball": _ball_surface, "cube": _cube_surface, "cone": _cone_surface, "ring": _ring_surface}
