"""Finished control pictures: resized as diffusers' pipelines do, checked for their kind, read and written."""

import base64
import json
import math
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image, ImageDraw, ImageFilter

from runtime import Layout, RealCompoError, Region
from runtime.errors import FieldError
from runtime.layouts.finished import FINISHED
from runtime.layouts.palette import ade20k
from runtime.layouts.writing import layout_files
from runtime.serving.inline import InlineLayout, Pixels, read_layout
from runtime.spatial.control_images import CONTROL_KINDS, control_image

SIDE = 96
LINES = ("scribble", "canny", "lineart", "lineart_anime", "softedge", "mlsd")
Make = Callable[[], Image.Image]


def lines(mode: str = "L", ground: int = 0, pen: int = 255, width: int = 1) -> Image.Image:
    """A house."""
    image = Image.new("L", (SIDE, SIDE), ground)
    draw = ImageDraw.Draw(image)
    draw.polygon([(20, 40), (48, 12), (76, 40), (76, 84), (20, 84)], outline=pen, width=width)
    return image.convert(mode)


def photograph(mode: str = "RGB") -> Image.Image:
    """Smooth shades over noise, in colours."""
    noise = np.random.default_rng(0).normal(0, 12, (SIDE, SIDE, 3))
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    shades = np.stack([90 + 90 * rows, 120 + 40 * columns, 140 - 60 * rows * columns], axis=2)
    return Image.fromarray((shades + noise).clip(0, 255).astype(np.uint8)).convert(mode)


def people() -> Image.Image:
    image = Image.new("RGB", (SIDE, SIDE))
    draw = ImageDraw.Draw(image)
    draw.line([(30, 20), (30, 60)], fill=(153, 0, 0), width=5)
    draw.line([(30, 60), (60, 90)], fill=(0, 153, 102), width=5)
    return image


def classes() -> Image.Image:
    """The upper half sky, the lower one sea, a boat of no palette of ours between them."""
    image = Image.new("RGB", (SIDE, SIDE), (6, 230, 230))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 48, SIDE, SIDE), fill=(9, 7, 230))
    draw.rectangle((40, 40, 60, 52), fill=(77, 33, 1))
    return image


def depth(mode: str = "L") -> Image.Image:
    ramp = np.linspace(20, 250, SIDE * SIDE).reshape(SIDE, SIDE)
    return Image.fromarray(ramp.astype(np.uint8)).convert(mode)


def normals() -> Image.Image:
    """A ball before a wall."""
    y, x = (np.mgrid[0:SIDE, 0:SIDE] + 0.5) / SIDE * 2.4 - 1.2
    inside = np.hypot(x, y) < 1
    z = np.sqrt(np.where(inside, 1 - x**2 - y**2, 1))
    vectors = np.stack([np.where(inside, x, 0), np.where(inside, -y, 0), z], axis=2)
    return Image.fromarray(np.round((vectors + 1) * 127.5).astype(np.uint8))


def holed() -> Image.Image:
    image = photograph("RGBA")
    alpha = np.full((SIDE, SIDE), 255, dtype=np.uint8)
    alpha[20:50, 30:70] = 0
    image.putalpha(Image.fromarray(alpha))
    return image


RIGHT: dict[str, Make] = {
    "openpose": people,
    "segmentation": classes,
    "depth": depth,
    **dict.fromkeys(("scribble", "lineart"), lambda: lines(width=3)),
    **dict.fromkeys(("canny", "mlsd"), lines),
    "lineart_anime": lambda: lines("RGB"),
    "softedge": lambda: lines(width=9).filter(ImageFilter.GaussianBlur(4)),
    "normal": normals,
    **dict.fromkeys(("tile", "ip2p", "shuffle"), photograph),
    "inpaint": holed,
}


def test_every_kind_is_a_control_image() -> None:
    assert RIGHT.keys() == FINISHED.keys() == CONTROL_KINDS.keys()


@pytest.mark.parametrize("size", [(SIDE, SIDE), (64, 40), (128, 160)])
@pytest.mark.parametrize("kind", [kind for kind in FINISHED if kind not in ("segmentation", "inpaint")])
def test_they_are_shown_as_diffusers_pipelines_show_them(kind: str, size: tuple[int, int]) -> None:
    picture = RIGHT[kind]()
    processor = VaeImageProcessor(vae_scale_factor=8, do_convert_rgb=True, do_normalize=False)
    (wanted,) = processor.preprocess(picture, height=size[0], width=size[1])
    found = control_image(Layout([], control={kind: picture}), kind, size)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


def test_classes_keep_their_colours() -> None:
    shown = control_image(Layout([], control={"segmentation": classes()}), "segmentation", (37, 41))
    colours = {tuple(colour) for colour in shown.mul(255).round().byte().flatten(1).T.tolist()}
    assert colours == {(6, 230, 230), (9, 7, 230), (77, 33, 1)}


def test_what_is_to_be_filled_is_minus_one() -> None:
    """As ControlNet 1.1 was trained; the rest is the picture."""
    shown = control_image(Layout([], control={"inpaint": holed()}), "inpaint", (SIDE, SIDE))
    hole = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    hole[20:50, 30:70] = True
    assert (shown[:, hole] == -1).all()
    wanted = torch.from_numpy(np.array(photograph())).permute(2, 0, 1) / 255
    torch.testing.assert_close(shown[:, ~hole], wanted[:, ~hole])


def test_a_finished_picture_comes_before_a_drawn_one() -> None:
    regions = [Region("a house", box=(0.1, 0.1, 0.4, 0.4), label="wall")]
    layout = Layout(regions, depth=np.zeros((8, 8), np.uint8), control={"depth": depth(), "scribble": lines()})
    drawn = Layout(regions)
    assert control_image(layout, "depth", (SIDE, SIDE)).max() > 0.9
    assert not torch.equal(control_image(layout, "scribble", (64, 64)), control_image(drawn, "scribble", (64, 64)))
    torch.testing.assert_close(
        control_image(layout, "segmentation", (64, 64)), control_image(drawn, "segmentation", (64, 64))
    )


def sixteen_bits() -> Image.Image:
    return Image.fromarray(np.asarray(depth()).astype(np.uint16) * 257)


def test_depth_of_16_bits() -> None:
    (deep, flat) = (
        control_image(Layout([], control={"depth": picture}), "depth", (SIDE, SIDE))
        for picture in (sixteen_bits(), depth())
    )
    torch.testing.assert_close(deep, flat)


def as_deep(image: Image.Image, mode: str, corner: float = 0) -> Image.Image:
    """The same numbers in a type of more bits; the first pixel is `corner`."""
    values = np.asarray(image).astype({"I;16": np.uint16, "F": np.float32}[mode])
    values[0, 0] = corner
    return Image.fromarray(values)


@pytest.mark.parametrize("kind", LINES)
def test_lines_in_one_bit(kind: str, tmp_path: Path) -> None:
    """What an annotator's edges are often saved as."""
    lines("1").save(tmp_path / "lines.png")
    read = Layout([], control={kind: tmp_path / "lines.png"}).control[kind]
    np.testing.assert_array_equal(read, np.asarray(lines("1").convert("RGB")))


@pytest.mark.parametrize("kind", ["openpose", "segmentation"])
def test_little_that_is_coloured(kind: str) -> None:
    """Someone far away."""
    image = Image.new("RGB", (SIDE, SIDE))
    ImageDraw.Draw(image).line([(40, 40), (40, 48)], fill=(255, 0, 0), width=2)
    np.testing.assert_array_equal(Layout([], control={kind: image}).control[kind], np.asarray(image))


WRONG: list[tuple[str, Make, str]] = [
    *((kind, lambda: lines(ground=255, pen=0), "dark lines on white; invert it") for kind in LINES),
    *((kind, photograph, "has colours") for kind in LINES),
    *((kind, lambda: photograph("L").point(lambda v: v // 2), "photograph") for kind in ("canny", "scribble", "mlsd")),
    *((kind, lambda: Image.new("L", (SIDE, SIDE)), "0 everywhere") for kind in ("canny", "tile", "depth")),
    *((kind, lambda: lines(pen=1), "no line brighter than 1 of 255; make its lines white") for kind in LINES),
    *((kind, lambda: as_deep(lines(), "I;16"), "no line brighter than 255 of 65535") for kind in LINES),
    *((kind, lambda: as_deep(lines(), "F"), "spans 0 to 255; give 0 to 1 in floats") for kind in (*LINES, "depth")),
    *((kind, lambda: as_deep(lines(), "F", math.nan), "spans nan to nan; give") for kind in (*LINES, "tile")),
    ("openpose", lines, "has no colours"),
    ("openpose", photograph, "black almost nowhere"),
    ("segmentation", lambda: Image.fromarray(np.eye(SIDE, dtype=np.uint8) * 3), "has no colours"),
    ("segmentation", photograph, "colours, so it seems to be a photograph"),
    ("depth", photograph, "has colours"),
    ("depth", lambda: lines(width=30), "seems to be a mask"),
    ("normal", depth, "has no colours"),
    ("normal", photograph, "no normals of length 1"),
    ("inpaint", photograph, "transparent in 0% of its pixels"),
    ("inpaint", lambda: Image.new("RGBA", (SIDE, SIDE), (1, 2, 3, 0)), "2 everywhere"),
    ("tile", holed, "transparent part that differs"),
]


@pytest.mark.parametrize(("kind", "make", "message"), WRONG)
def test_pictures_of_something_else_are_refused(kind: str, make: Make, message: str) -> None:
    with pytest.raises(RealCompoError, match=message) as refusal:
        Layout([], control={kind: make()})
    assert str(refusal.value).startswith(f"the control.{kind} ")
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 300


@pytest.mark.parametrize("kind", RIGHT)
def test_a_layout_file_with_a_picture_of_each_kind(kind: str, tmp_path: Path) -> None:
    picture = RIGHT[kind]()
    picture.save(tmp_path / "picture.png")
    (tmp_path / "layout.json").write_text(json.dumps({"regions": [], "control": {kind: "picture.png"}}))
    layout = Layout.from_file(tmp_path / "layout.json")
    np.testing.assert_array_equal(
        layout.control[kind], np.asarray(picture.convert("RGBA" if kind == "inpaint" else "RGB"))
    )
    for path, content in layout_files(layout, tmp_path / "copy.json").items():
        path.write_bytes(content)
    copy = Layout.from_file(tmp_path / "copy.json")
    np.testing.assert_array_equal(copy.control[kind], layout.control[kind])


@pytest.mark.parametrize(
    ("control", "message"),
    [
        ({"cany": "a.png"}, "control: there is no kind of control picture 'cany'; there are openpose, .*canny"),
        ({"canny": "none.png"}, "control.canny: cannot read the control.canny .*none.png"),
        ({"canny": "../a.png"}, "control.canny: '../a.png' leaves the layout's folder"),
        ({"canny": "a\0b.png"}, "control.canny: .* is no name of a file: embedded null byte"),
        ({"canny": 3}, "control.canny"),
        ("a.png", "control"),
    ],
)
def test_files_that_are_wrong(control: object, message: str, tmp_path: Path) -> None:
    (tmp_path / "layout.json").write_text(json.dumps({"regions": [], "control": control}))
    with pytest.raises(RealCompoError, match=message) as refusal:
        Layout.from_file(tmp_path / "layout.json")
    assert "layout.json" in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_kind_that_only_a_finished_picture_can_show() -> None:
    with pytest.raises(RealCompoError, match=r"the layout has no control\.canny, a picture with Canny's edges"):
        control_image(Layout([Region("a", box=(0, 0, 1, 1))], control={"tile": photograph()}), "canny", (8, 8))


def test_arrays_are_pixels() -> None:
    blank = np.zeros((8, 8, 3), dtype=np.uint8)
    assert control_image(Layout([], control={"normal": blank}), "normal", (4, 4)).abs().max() == 0
    for wrong in (blank[..., 0], blank / 255, np.zeros((8, 8, 4), np.uint8), blank[:0]):
        with pytest.raises(RealCompoError, match=r"give \(H,W,3\) of uint8"):
            Layout([], control={"canny": wrong})


def encoded(picture: Image.Image) -> str:
    buffer = BytesIO()
    picture.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_requests_carry_them() -> None:
    asked = {
        "regions": [],
        "control": {"canny": f"data:image/png;base64,{encoded(lines())}", "tile": encoded(photograph())},
    }
    layout = read_layout(InlineLayout.model_validate(asked), Pixels(SIDE * SIDE, 2 * SIDE * SIDE))
    np.testing.assert_array_equal(layout.control["canny"], np.asarray(lines("RGB")))
    np.testing.assert_array_equal(layout.control["tile"], np.asarray(photograph()))


@pytest.mark.parametrize(
    ("picture", "left", "message"),
    [
        ("canny.png", 10**6, "never a path"),
        (encoded(lines()), SIDE * SIDE - 1, "too many"),
        ("AAAA", 9, "it is no PNG"),
    ],
)
def test_requests_that_are_wrong(picture: str, left: int, message: str) -> None:
    asked = InlineLayout.model_validate({"regions": [], "control": {"canny": picture}})
    with pytest.raises(RealCompoError, match=message) as refusal:
        read_layout(asked, Pixels(10**6, left))
    assert isinstance(refusal.value, FieldError) and refusal.value.field == "control.canny"


def test_classes_in_ade20ks_colours_are_the_drawn_ones() -> None:
    """A picture that an annotator painted shows the same as the label map that it was painted from."""
    labels = np.array([[2, 2, 12], [21, 12, 21]], dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    painted = Layout([], control={"segmentation": Image.fromarray(ade20k().paint(labels))})
    drawn = Layout([], segmentation=labels)
    torch.testing.assert_close(*(control_image(one, "segmentation", (16, 24)) for one in (painted, drawn)))
