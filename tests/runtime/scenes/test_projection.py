"""What a camera sees: projections by hand, the z-buffer against ray casting, and what a layout has of it."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from runtime import Layout
from runtime.errors import FieldError
from runtime.layouts.palette import UNLABELLED, ade20k
from runtime.scenes import Camera, Relation, Scene, SceneObject
from runtime.scenes.camera import view_of
from runtime.scenes.raster import draw, ground_nearness
from runtime.scenes.solids import rotation_of

SIZE = (96, 128)
STRAIGHT = Camera((0, 1, 5), (0, 1, 0), 90)
OBLIQUE = Camera((3, 2.5, 4), (0.2, 0.4, -0.3), 35)
SOME = settings(max_examples=25, deadline=None)
Surface = Callable[[np.ndarray, np.ndarray], np.ndarray]  # origins and directions in a cube of 1 -> distances, inf


def test_projection_by_hand() -> None:
    """90 degrees: a metre before the camera the picture is two metres high, and 8/3 of one wide at 4:3."""
    view = view_of(STRAIGHT, SIZE)
    points = np.array([(0, 1, 0), (0, 2, 4), (4 / 3, 1, 4), (-2 / 3, 0.5, 4), (0, 1 + 2.5, 0)])
    wanted = [(0.5, 0.5), (0.5, 0), (1, 0.5), (0.25, 0.75), (0.5, 0.25)]
    np.testing.assert_allclose(view.project(points), wanted, atol=1e-12)
    np.testing.assert_allclose(view.distances(points), [5, 1, 1, 1, 5])


@pytest.mark.parametrize("camera", [STRAIGHT, OBLIQUE])
def test_projection_is_a_projective_matrix(camera: Camera) -> None:
    """As graphics textbooks have it: a rotation with the line of sight as -z, a frustum, a division by w."""
    view, points = view_of(camera, SIZE), np.random.default_rng(0).uniform(-0.7, 0.7, (20, 3))
    back = np.subtract(camera.position, camera.look_at) / np.linalg.norm(np.subtract(camera.position, camera.look_at))
    right = np.cross((0, 1, 0), back) / np.linalg.norm(np.cross((0, 1, 0), back))
    look = np.eye(4)
    look[:3, :3] = right, np.cross(back, right), back
    look[:3, 3] = -look[:3, :3] @ camera.position
    focal, aspect = 1 / np.tan(np.radians(camera.field_of_view) / 2), SIZE[1] / SIZE[0]
    frustum = np.array([(focal / aspect, 0, 0, 0), (0, focal, 0, 0), (0, 0, -1.02, -0.2), (0, 0, -1, 0)])
    clip = np.column_stack([points, np.ones(20)]) @ (frustum @ look).T
    across = clip[:, :2] / clip[:, 3:]
    np.testing.assert_allclose(view.project(points), (1 + across * (1, -1)) / 2, atol=1e-12)


@SOME
@given(st.tuples(*[st.floats(-180, 180)] * 3))
def test_rotations_are_scipys(degrees: tuple[float, float, float]) -> None:
    x, y, z = degrees
    wanted = Rotation.from_euler("zxy", [z, x, y], degrees=True).as_matrix()  # about fixed axes, in this order
    np.testing.assert_allclose(rotation_of(degrees), wanted, atol=1e-12)


def cuboid(origin: np.ndarray, way: np.ndarray) -> np.ndarray:
    """Slabs: where a ray has entered all three and left none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = np.sort([(-0.5 - origin) / way, (0.5 - origin) / way], axis=0)
    enter, leave = ends[0].max(axis=-1), ends[1].min(axis=-1)
    return np.where((enter < leave) & (enter > 0), enter, np.inf)


def sphere(origin: np.ndarray, way: np.ndarray) -> np.ndarray:
    """Within the octahedra that the triangles may cut off: `test_the_z_buffer_is_what_rays_hit` allows for it."""
    a, b, c = (way**2).sum(-1), (origin * way).sum(-1), (origin**2).sum(-1) - 0.25
    root = b**2 - a * c
    return np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, np.inf)


def cone(origin: np.ndarray, way: np.ndarray) -> np.ndarray:
    """The sides are x^2 + z^2 = ((0.5 - y) / 2)^2, and the base a disk at y = -0.5."""
    ox, oy, oz = np.moveaxis(origin, -1, 0)
    wx, wy, wz = np.moveaxis(way, -1, 0)
    top = 0.5 - oy
    a, b, c = wx**2 + wz**2 - wy**2 / 4, ox * wx + oz * wz + top * wy / 4, ox**2 + oz**2 - top**2 / 4
    root = np.sqrt(np.maximum(b**2 - a * c, 0))
    hits = []
    with np.errstate(divide="ignore", invalid="ignore"):
        for at in ((-b - root) / a, (-b + root) / a):
            y = oy + at * wy
            hits.append(np.where((b**2 >= a * c) & (abs(y) <= 0.5) & (at > 0), at, np.inf))
        base = (-0.5 - oy) / wy
        inside = (ox + base * wx) ** 2 + (oz + base * wz) ** 2 <= 0.25
        hits.append(np.where(inside & (base > 0), base, np.inf))
    return np.min(hits, axis=0)


def torus(origin: np.ndarray, way: np.ndarray) -> np.ndarray:
    """Walked along the ray in small steps: the tube's middle is a circle of 0.36, its radii are 0.14 and 0.5."""
    steps = np.linspace(0, 1, 4000)
    far = np.linalg.norm(origin, axis=-1, keepdims=True) / np.linalg.norm(way, axis=-1, keepdims=True)
    low, high = far[..., 0] * 0.5, far[..., 0] * 1.5
    found = np.full(low.shape, np.inf)
    for step in steps[::-1]:
        at = low + (high - low) * step
        x, y, z = np.moveaxis(origin + at[..., None] * way, -1, 0)
        inside = ((np.hypot(x, y) - 0.36) / 0.14) ** 2 + (z / 0.5) ** 2 <= 1
        found = np.where(inside, at, found)
    return found


def cast(surface: Surface, one: SceneObject, camera: Camera) -> np.ndarray:
    """(H,W): what rays through the pixels' middles hit, as one over the distance along the line of sight."""
    assert one.position is not None
    x, y, z = one.rotation
    turn = Rotation.from_euler("zxy", [z, x, y], degrees=True).as_matrix()
    foot = np.array(one.position)
    middle = foot + np.array([0, (abs(turn) @ one.size)[1] / 2, 0])  # of a turned box, and of what is turned about y
    back = np.subtract(camera.position, camera.look_at)
    back = back / np.linalg.norm(back)
    right = np.cross((0, 1, 0), back) / np.linalg.norm(np.cross((0, 1, 0), back))
    half = np.tan(np.radians(camera.field_of_view) / 2)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    across, up = (2 * columns / SIZE[1] - 1) * half * SIZE[1] / SIZE[0], (1 - 2 * rows / SIZE[0]) * half
    rays = across[..., None] * right + up[..., None] * np.cross(back, right) - back  # one metre along the line of sight
    local = turn / one.size  # the inverse of what turned and sized it, transposed
    return 1 / surface((camera.position - middle) @ local, rays @ local)


@pytest.mark.parametrize("camera", [STRAIGHT, OBLIQUE])
@pytest.mark.parametrize(
    ("surface", "rotation", "chord"),
    [
        (cuboid, (0, 0, 0), 0),
        (cuboid, (25, -40, 60), 0),
        (sphere, (0, 0, 0), 0.01),
        (cone, (0, 0, 0), 0.01),
        (torus, (0, 20, 0), 0.03),
    ],
)
def test_the_z_buffer_is_what_rays_hit(
    surface: Surface, rotation: tuple[float, float, float], chord: float, camera: Camera
) -> None:
    """Exactly of a cuboid; of round shapes as near as chords are to circles, and but for pixels of their edges."""
    one = SceneObject("a thing", (1.2, 0.9, 0.8), shape=surface.__name__, position=(0.1, 0.3, 0), rotation=rotation)
    drawn = draw(Scene([one]).solids[0].mesh, view_of(camera, SIZE), SIZE)
    found, wanted = np.zeros(SIZE), cast(surface, one, camera)
    found[drawn.window] = drawn.nearness
    assert ((found > 0) != (wanted > 0)).sum() <= (0 if chord == 0 else 0.08 * (wanted > 0).sum())
    both = (found > 0) & (wanted > 0)
    assert both.sum() > 50
    np.testing.assert_allclose(found[both], wanted[both], rtol=max(chord, 1e-9))


def test_the_ground_is_a_plane_below_the_horizon() -> None:
    view = view_of(OBLIQUE, SIZE)
    nearness, rays = ground_nearness(view, SIZE), view.rays(SIZE)
    hit = np.array(OBLIQUE.position) + rays[nearness > 0] / nearness[nearness > 0][:, None]
    np.testing.assert_allclose(hit[:, 1], 0, atol=1e-9)
    assert (rays[nearness == 0][:, 1] >= 0).all()


def row(*depths: float) -> Scene:
    """Cubes side by side, so many metres from the camera."""
    return Scene(
        [SceneObject("a cube", (1, 1, 1), position=(1.5 * i - 1.5, 0, 5 - z)) for i, z in enumerate(depths)],
        camera=Camera((0, 1, 5), (0, 0.8, 0), 60),
    )


@SOME
@given(st.lists(st.floats(4, 12), min_size=3, max_size=3, unique_by=lambda z: round(z, 1)))
def test_nearer_is_brighter_and_on_a_higher_layer(depths: list[float]) -> None:
    shot = row(*depths).shot(SIZE)
    brightest = [shot.depth[shot.shown == i].max() for i in range(3)]
    assert np.argsort(brightest).tolist() == np.argsort(depths)[::-1].tolist()
    assert [shot.layers[i] for i in np.argsort(depths)[::-1]] == [0, 1, 2]


def test_depth_is_nearness_from_the_farthest_to_the_nearest() -> None:
    """Of MiDaS's kind: linear in one over the distance; the sky is 0, and the ground at the bottom edge 1."""
    shot = row(4, 6, 8).shot(SIZE)
    assert shot.depth.min() == 0 and shot.depth.max() == 1
    values = [(shot.depth[pixel], shot.nearness[pixel]) for pixel in ((95, 60), (40, 10), (60, 60))]
    (a, x), (b, y), (c, z) = values
    assert (a - b) * (x - z) == pytest.approx((a - c) * (x - y), abs=1e-6)


def test_what_stands_on_something_covers_it_though_that_is_nearer() -> None:
    scene = Scene.from_file("examples/scene/scene.json")
    layout = scene.layout((256, 256))
    layers = {region.phrase: region.layer for region in layout.regions}
    assert scene.camera
    nearest = {
        solid.object.phrase: view_of(scene.camera, SIZE).distances(solid.mesh.points).min() for solid in scene.solids
    }
    assert nearest["a wooden table"] < nearest["a red ball"]
    assert layers["a red ball"] > layers["a wooden table"] > layers["a grey sofa"]


def test_boxes_are_around_all_of_an_object_and_masks_around_what_is_seen() -> None:
    """A cube half behind a nearer, larger one."""
    camera = Camera((0, 0.5, 6), (0, 0.5, 0), 50)
    far = SceneObject("a cube", (1, 1, 1), position=(0.9, 0, 0))
    near = SceneObject("a crate", (1.5, 1.5, 1), position=(0, 0, 2))
    scene = Scene([far, near], camera=camera)
    boxes, masks = (scene.layout((256, 256), place).regions for place in ("box", "mask"))
    alone = Scene([far], camera=camera).layout((256, 256), "mask").regions[0]
    np.testing.assert_allclose(boxes[0].bounding_box(), alone.bounding_box(), atol=1 / 256)
    assert masks[0].bounding_box()[0] == pytest.approx(masks[1].bounding_box()[2], abs=2 / 256)
    assert not (masks[0].mask_at((256, 256)) * masks[1].mask_at((256, 256))).any()


def test_labels() -> None:
    objects = [
        SceneObject("a box", (1, 1, 1), position=(-1, 0, 0), label="box"),
        SceneObject("a cone", (1, 1, 1), shape="cone", position=(1, 0, 0)),
    ]
    shot = Scene(objects, camera=Camera((0, 1, 6), (0, 1, 0), 50), ground="floor", background=0).shot(SIZE)
    names, labels = ade20k().names, shot.layout().segmentation
    assert isinstance(labels, np.ndarray)
    assert set(np.unique(labels)) == {names.index("box"), UNLABELLED, names.index("floor"), 0}
    np.testing.assert_array_equal(labels == names.index("box"), shot.shown == 0)
    assert (labels[0] == 0).all() and (labels[-1] == names.index("floor")).all()
    assert Scene(objects[1:]).layout(SIZE).segmentation is None


@SOME
@given(
    st.sampled_from([(64, 64), (64, 128), (200, 50)]),
    st.lists(st.tuples(*[st.floats(0.05, 3)] * 3), min_size=1, max_size=5),
)
def test_a_camera_of_our_own_has_all_in_the_picture_and_fills_it(
    size: tuple[int, int], sizes: list[tuple[float, ...]]
) -> None:
    objects = [SceneObject("a thing", one) for one in sizes]  # type: ignore[arg-type]
    try:
        boxes = np.array([region.box for region in Scene(objects).layout(size).regions])
    except FieldError as error:
        assert "is not seen" in str(error)  # of what is small, in so small a picture
        return
    assert boxes.min() > 0.06 and boxes.max() < 0.94
    assert max(
        boxes[:, 2].max() - 0.5, 0.5 - boxes[:, 0].min(), boxes[:, 3].max() - 0.5, 0.5 - boxes[:, 1].min()
    ) == pytest.approx(0.43, abs=1e-3)


CAT = SceneObject("a cat", (1, 1, 1), position=(0, 0, 0))


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ([replace(CAT, position=(0, 0, 4.8))], "'a cat' is not all before the camera; move it"),
        ([replace(CAT, position=(0, 0, 20))], "'a cat' is not all before the camera; move it"),
        ([replace(CAT, position=(50, 0, 0))], "'a cat' is not seen: it is outside the picture; move it, or the camera"),
        (
            [CAT, SceneObject("a wall", (9, 4, 0.1), position=(0, 0, 2))],
            "'a cat' is not seen: 'a wall' covers it; move one of them",
        ),
    ],
)
def test_what_is_not_seen_is_refused(objects: list[SceneObject], message: str) -> None:
    with pytest.raises(FieldError) as error:
        Scene(objects, camera=STRAIGHT).layout(SIZE)
    assert error.value.field == "objects.0"
    assert message in str(error.value)


@pytest.mark.parametrize(("scale", "is_given"), [(1e-4, False), (5e4, False), (1e-4, True), (2e4, True)])
def test_a_scene_looks_the_same_in_any_size(scale: float, is_given: bool) -> None:
    """From the smallest to the largest sizes that objects may have; a camera that is given moves with it."""

    def boxes(scale: float) -> list[object]:
        ball, box = SceneObject("a ball", (scale,) * 3, shape="sphere"), SceneObject("a box", (2 * scale,) * 3)
        camera = Camera((0, 3 * scale, 5 * scale), (0, 0, 0), 60) if is_given else None
        return [
            one.box for one in Scene([box, ball], [Relation("a ball", "behind", "a box")], camera).layout(SIZE).regions
        ]

    np.testing.assert_allclose(boxes(scale), boxes(1), atol=1e-6)


@pytest.mark.parametrize("gap", [1e4, 1e5])
def test_what_is_too_small_is_named_with_its_size(gap: float) -> None:
    objects = [SceneObject("a cat", (1, 0.5, 1)), SceneObject("a dog", (1, 1, 1))]
    with pytest.raises(FieldError, match=r"'a cat' is not seen: its 1 x 0.5 x 1 metres are too small \d+ metres away"):
        Scene(objects, [Relation("a cat", "left of", "a dog", gap)]).layout(SIZE)


def test_the_layout_draws_control_images() -> None:
    layout = Scene.from_file("examples/scene/scene.json").layout((64, 64))
    assert isinstance(layout, Layout) and isinstance(layout.depth, np.ndarray)
    assert layout.depth.shape == (64, 64)
