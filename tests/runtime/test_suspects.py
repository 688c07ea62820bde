"""Pictures that hold something else than they are given for: read where it is plain what is meant, or refused."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from runtime import Layout, RealCompoError
from runtime.layouts.images import read_depth, read_labels, read_mask
from runtime.layouts.palette import UNLABELLED, ade20k

SIDE = 48
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE]
DISC = np.hypot(ROWS - 24, COLUMNS - 20) < 12
RAMP = (255 * COLUMNS / (SIDE - 1)).astype(np.uint8)  # a depth, near on the right
IDS = np.select([DISC, ROWS < 16], [23, 2], 0).astype(np.uint8)  # a sofa under the sky before a wall
PHOTO = np.random.default_rng(0).normal(128, 40, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)


def grey(values: Any) -> Image.Image:
    return Image.fromarray(np.asarray(values))


def with_alpha(colours: int | np.ndarray, alpha: np.ndarray) -> Image.Image:
    layers = [np.broadcast_to(np.asarray(colours, dtype=np.uint8), alpha.shape)] * 3
    return Image.fromarray(np.dstack([*layers, alpha]).astype(np.uint8))


def indexed(values: np.ndarray, colours: dict[int, Any]) -> Image.Image:
    table = np.zeros((256, 3), dtype=np.uint8)
    for value, colour in colours.items():
        table[value] = colour
    image = Image.fromarray(values)
    image.putpalette(table.flatten().tolist())
    return image


INVERSE = np.choose(DISC, [255, 0]).astype(np.uint8)
WHITE_DISC = np.uint8(255) * DISC
MASKS = {
    "grey": grey(WHITE_DISC),
    "one bit": grey(DISC),
    "RGB": grey(WHITE_DISC).convert("RGB"),
    "RGBA, opaque": grey(WHITE_DISC).convert("RGBA"),
    "white, cut out by its alpha": with_alpha(255, WHITE_DISC),
    "one colour, cut out by its alpha": with_alpha(200, WHITE_DISC),
    "a red brush on nothing": Image.fromarray(np.dstack([WHITE_DISC, 0 * WHITE_DISC, 0 * WHITE_DISC, WHITE_DISC])),
    "grey and alpha that agree": with_alpha(WHITE_DISC, WHITE_DISC),
    "palette, 1 is white": indexed(DISC.astype(np.uint8), {1: (255, 255, 255)}),
    "palette, 0 is white": indexed(1 - DISC.astype(np.uint8), {0: (255, 255, 255)}),
    "16 bits": grey(np.uint16(65535) * DISC),
    "floats": grey(DISC.astype(np.float32)),
}


@pytest.mark.parametrize("name", MASKS)
def test_masks_that_are_plain(tmp_path: Path, name: str) -> None:
    file = tmp_path / ("mask.tiff" if MASKS[name].mode == "F" else "mask.png")
    MASKS[name].save(file)
    for source in (file, MASKS[name]):
        np.testing.assert_array_equal(read_mask(source, "a ball"), DISC)


def test_16_bits_are_not_cut_to_8() -> None:
    """Halves stay halves: cut at 255 they would be ones."""
    mask = read_mask(grey(np.array([[0, 32768, 65535]], dtype=np.uint16)), "x")
    np.testing.assert_allclose(mask, [[0, 32768 / 65535, 1]])


def test_pictures_are_turned_as_viewers_turn_them(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side: a quarter turn clockwise sets it right
    grey(WHITE_DISC).save(tmp_path / "mask.png", exif=exif)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", "x"), np.rot90(DISC, -1))


SUSPECTS: dict[str, tuple[str, Image.Image, str]] = {
    "photograph as mask": ("mask", grey(PHOTO), "has colours"),
    "grey photograph as mask": ("mask", grey(PHOTO[..., 0]), "grey for the most part"),
    "coloured label map as mask": ("mask", indexed(IDS, {2: (6, 230, 230), 23: (11, 102, 255)}), "has colours"),
    "depth of 16 bits as mask": ("mask", grey(RAMP.astype(np.uint16) * 257), "grey for the most part"),
    "label map as depth": ("depth", grey(IDS), "seems to be a label map"),
    "label map that was enlarged": (
        "segmentation",
        grey(IDS).resize((96, 96), Image.Resampling.BILINEAR),
        "only stand between others",
    ),
    "steps of depth as label map": (
        "segmentation",
        grey((RAMP // 16 * 16)[:, ::3].copy()),
        "only stand between others",
    ),
    "white mask": ("mask", grey(np.full((SIDE, SIDE), 255, np.uint8)), "is 255 everywhere"),
    "black mask": ("mask", grey(np.zeros((SIDE, SIDE), np.uint8)), "is 0 everywhere"),
    "mask of 0 and 1": ("mask", grey(DISC.astype(np.uint8)), "largest value is 0.00392"),
    "8 bits in 16": ("mask", grey(WHITE_DISC.astype(np.uint16)), "largest value is 0.00389"),
    "black, cut out by its alpha": ("mask", with_alpha(0, WHITE_DISC), "is 0 everywhere"),
    "photograph, cut out": ("mask", with_alpha(PHOTO[..., 0], WHITE_DISC), "transparent part"),
    "mask against its alpha": ("mask", with_alpha(WHITE_DISC, INVERSE), "transparent part"),
    "print colours": ("mask", grey(WHITE_DISC).convert("CMYK"), "is CMYK"),
    "photograph as label map": ("segmentation", grey(PHOTO), "are RGB, not class ids"),
    "grey photograph as label map": ("segmentation", grey(PHOTO[..., 0]), "values, so it seems to be a photograph"),
    "mask as label map": ("segmentation", grey(WHITE_DISC), "seems to be a mask"),
    "palette mask as label map": ("segmentation", indexed(DISC.astype(np.uint8), {1: (255,) * 3}), "palette of greys"),
    "one class": ("segmentation", grey(np.full((SIDE, SIDE), 7, np.uint8)), "is 7 everywhere"),
    "ADE20K's colours as a palette in order": (
        "segmentation",
        indexed(np.searchsorted([0, 2, 23], IDS).astype(np.uint8), dict(enumerate(ade20k().colors[[0, 2, 23]]))),
        "has ADE20K's colours at other values",
    ),
    "ids as a palette's greys": (
        "segmentation",
        indexed(np.searchsorted([0, 2, 23], IDS).astype(np.uint8), {0: (0,) * 3, 1: (2,) * 3, 2: (23,) * 3}),
        "palette of greys that are not its values",
    ),
    "photograph as depth": ("depth", grey(PHOTO), "has colours"),
    "depth in a colour map": ("depth", indexed(RAMP, {i: (i, 0, 255 - i) for i in range(256)}), "has colours"),
    "mask as depth": ("depth", grey(WHITE_DISC), "seems to be a mask"),
    "grey depth": ("depth", grey(np.full((SIDE, SIDE), 99, np.uint8)), "is 99 everywhere"),
    "millimetres": ("depth", grey(RAMP.astype(np.uint16) * 20 + 800), "ends at 5900 of 65535"),
    "depth of 8 bits in 16": ("depth", grey(RAMP.astype(np.uint16)), "spans 0 to 255 of 65535"),
    "metres": ("depth", grey(RAMP.astype(np.float32) / 20), "outside 0..1"),
    "depth in alpha": ("depth", with_alpha(128, RAMP), "is 128 everywhere|transparent part"),
}
READERS: dict[str, Callable[[Any], np.ndarray]] = {
    "mask": lambda source: read_mask(source, "a ball"),
    "segmentation": read_labels,
    "depth": read_depth,
}


@pytest.mark.parametrize("name", SUSPECTS)
def test_pictures_of_something_else(name: str) -> None:
    what, image, message = SUSPECTS[name]
    with pytest.raises(RealCompoError, match=message) as refused:
        READERS[what](image)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    "image",
    [
        indexed(IDS, dict(enumerate(ade20k().colors))),
        indexed(IDS, {i: (128 * (i & 1), 64 * (i & 2), 32 * (i & 4)) for i in range(256)}),  # as PASCAL VOC paints
        indexed(IDS, {i: (i, i, i) for i in range(256)}),
        indexed(IDS, {}),
        grey(IDS.astype(np.uint16)),
        grey(IDS.astype(np.int32)),
    ],
    ids=["ADE20K's palette", "another palette", "greys", "black", "16 bits", "32 bits"],
)
def test_label_maps_that_are_plain(image: Image.Image) -> None:
    np.testing.assert_array_equal(read_labels(image), IDS)


PAINTED = ade20k().paint(IDS)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_label_maps_in_the_colours_of_ade20k(tmp_path: Path, mode: str) -> None:
    """As OneFormer and the ControlNets' annotators paint: sky above a wall, and a sofa; black has no class."""
    painted = PAINTED.copy()
    painted[-4:] = 0
    wanted = IDS.copy()
    wanted[-4:] = 255
    Image.fromarray(painted).convert(mode).save(tmp_path / "painted.png")
    for source in (tmp_path / "painted.png", Image.fromarray(painted).convert(mode)):
        np.testing.assert_array_equal(read_labels(source), wanted)


def test_a_colour_of_two_classes_is_the_first() -> None:
    """Road and skyscraper; every other colour is its class's own."""
    palette = ade20k()
    ids = np.arange(150, dtype=np.uint8)[None]
    found = palette.ids_of(palette.paint(ids))
    assert {(int(a), int(b)) for a, b in zip(ids[0], found[0], strict=True) if a != b} == {(48, 6)}
    assert [palette.names[i] for i in (6, 48)] == ["road", "skyscraper"]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (
            Image.fromarray(PAINTED).resize((96, 96), Image.Resampling.BILINEAR),
            "in ADE20K's colours but for .*% of its",
        ),
        (Image.fromarray(PAINTED[..., ::-1].copy()), "not class ids or ADE20K's colours"),
        (with_alpha(PHOTO[..., 0], WHITE_DISC), "are RGBA, not class ids"),
    ],
    ids=["blended", "blue for red", "grey cut out"],
)
def test_coloured_label_maps_that_are_not_plain(image: Image.Image, message: str) -> None:
    with pytest.raises(RealCompoError, match=message):
        read_labels(image)


def test_coloured_label_maps_that_were_compressed(tmp_path: Path) -> None:
    Image.fromarray(PAINTED).save(tmp_path / "labels.jpg", quality=95)
    with pytest.raises(RealCompoError, match="is a JPEG, which changes class ids"):
        read_labels(tmp_path / "labels.jpg")


def test_label_maps_that_were_compressed(tmp_path: Path) -> None:
    grey(IDS).save(tmp_path / "labels.jpg")
    with pytest.raises(RealCompoError, match="is a JPEG, which changes class ids"):
        read_labels(tmp_path / "labels.jpg")


@pytest.mark.parametrize("quality", [30, 95])
def test_grey_depth_from_a_coloured_jpeg(tmp_path: Path, quality: int) -> None:
    grey(RAMP).convert("RGB").save(tmp_path / "depth.jpg", quality=quality)
    assert np.abs(read_depth(tmp_path / "depth.jpg") - RAMP / 255).max() < 0.1


def test_pictures_of_several_frames(tmp_path: Path) -> None:
    grey(WHITE_DISC).save(tmp_path / "mask.gif", save_all=True, append_images=[grey(INVERSE)])
    with pytest.raises(RealCompoError, match="has 2 frames"):
        read_mask(tmp_path / "mask.gif", "x")


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n\x1a\n", b"GIF89a\x01", b"P5 9 9 255 x", b"{}", b"II*\0\xff\xff\xff\xff"]
)
def test_damaged_pictures_are_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mask.png").write_bytes(content)
    with pytest.raises(RealCompoError, match="cannot read the mask") as refused:
        read_mask(tmp_path / "mask.png", "x")
    assert "\n" not in str(refused.value)


def test_the_field_is_named(tmp_path: Path) -> None:
    grey(PHOTO).save(tmp_path / "photo.png")
    (tmp_path / "layout.json").write_text('{"regions": [], "depth": "photo.png"}')
    with pytest.raises(RealCompoError, match=r"layout\.json: depth: the depth has colours"):
        Layout.from_file(tmp_path / "layout.json")


def _file(form: str) -> bytes:
    buffer = BytesIO()
    grey(RAMP).save(buffer, format=form)
    return buffer.getvalue()


FILES = {form: _file(form) for form in ("PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP", "PPM", "TGA")}


@given(st.sampled_from(sorted(FILES)), st.floats(0, 1), st.binary(max_size=4), st.sampled_from(sorted(READERS)))
@settings(max_examples=200, deadline=None)
def test_any_picture_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, form: str, place: float, noise: bytes, what: str
) -> None:
    """Cut off, or with bytes written over."""
    path = tmp_path_factory.getbasetemp() / "damaged.png"
    whole = FILES[form]
    at = round(place * len(whole))
    path.write_bytes(whole[:at] + noise + whole[at + len(noise) :] if noise else whole[:at])
    try:
        assert READERS[what](path).ndim == 2
    except RealCompoError as error:
        said = str(error).replace(str(path), "")
        assert len(said) < 250
        assert len(said.splitlines()) == 1


def test_a_small_object_in_the_colours_of_ade20k() -> None:
    ids = np.full((100, 100), UNLABELLED, dtype=np.uint8)
    ids[10:14, 20:30] = 12  # person, in 40 pixels of 10,000
    painted = Image.fromarray(np.where((ids == UNLABELLED)[..., None], 0, ade20k().colors[12]).astype(np.uint8))
    np.testing.assert_array_equal(READERS["segmentation"](painted), ids)
