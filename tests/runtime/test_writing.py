"""What cannot be written is refused before the work: names, places and formats, tried on the real file system."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import runtime.__main__ as command
from runtime import RealCompo, RealCompoError
from runtime.messages import one_line
from runtime.writing import check_picture, check_writable, encoded, write_picture

HOLDING = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".tga", ".gif", ".pdf", ".PNG")


@pytest.mark.parametrize("suffix", HOLDING)
def test_formats_that_hold_pictures(tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"image{suffix}"
    check_picture(out, (96, 64))
    assert not out.exists()
    write_picture(out, Image.linear_gradient("L").resize((96, 64)).convert("RGB"))
    assert suffix == ".pdf" or Image.open(out).size == (96, 64)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("x.xbm", (64, 64), ".xbm cannot hold 64x64 pixels in RGB"),
        ("x.wmf", (64, 64), ".wmf cannot hold"),
        ("x.h5", (64, 64), ".h5 cannot hold"),
        ("x.grib", (64, 64), ".grib cannot hold"),
        ("x.msp", (64, 64), ".msp cannot hold"),
        ("x.ico", (512, 512), ".ico would make 256x256 pixels of 512x512"),
        ("x.webp", (16384, 8), ".webp cannot hold 16384x8"),
        ("x.jpg", (65536, 8), ".jpg cannot hold 65536x8"),
        ("x", (64, 64), "no suffix is not a picture format"),
        (".png", (64, 64), "no suffix is not a picture format"),
        ("-", (64, 64), "no suffix is not a picture format"),
        ("x.xcf", (64, 64), ".xcf is not a picture format"),
        ("x.svg", (64, 64), ".svg is not a picture format"),
        ("x.png.", (64, 64), "is not a picture format"),
    ],
)
def test_formats_that_do_not(tmp_path: Path, name: str, size: tuple[int, int], message: str) -> None:
    with pytest.raises(RealCompoError) as refused:
        check_picture(tmp_path / name, size)
    assert message in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_an_icon_holds_what_fits(tmp_path: Path) -> None:
    check_picture(tmp_path / "x.ico", (128, 128))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("folder", "is a folder"),
        ("file/x.json", "cannot write"),
        ("x" * 256, "File name too long"),
        ("é" * 130, "File name too long"),
        ("/dev/null", "is a device or a pipe"),
        ("-", "- is no file"),
        ("\udcff.json", "is not UTF-8 text"),
        ("/proc/x.json", "cannot write /proc/x.json"),
    ],
)
def test_places_that_take_no_file(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(RealCompoError, match=message):
        check_writable(Path(name) if name == "-" else tmp_path / name)


@pytest.mark.parametrize("name", ["x" * 251 + ".png", "é" * 125 + ".png"])
def test_the_longest_names_are_written(tmp_path: Path, name: str) -> None:
    check_picture(tmp_path / name)
    write_picture(tmp_path / name, Image.new("RGB", (8, 8)))
    assert [path.name for path in tmp_path.iterdir()] == [name]


class Drawn(Exception):
    """The work has begun."""


@pytest.fixture
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(*_: Any, **__: Any) -> None:
        raise Drawn

    monkeypatch.setattr(RealCompo, "__call__", draw)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command.app, [*map(str, arguments)])


@pytest.mark.parametrize(
    ("out", "others", "message"),
    [
        ("x.xbm", (), "cannot hold"),
        ("x.h5", (), "cannot hold"),
        ("taken.png", (), "is a folder"),
        ("image.png", ("--num-images", 2), "image-1.png is a folder"),
        (f"{'x' * 251}.png", ("--num-images", 2), "File name too long"),
        ("traces/loss.png", ("--traces", "traces"), "--out and --traces both write"),
        ("x.png", ("--traces", "full"), "weights.png is a folder"),
        ("x.png", ("--traces", "-"), "- is no file"),
    ],
)
@pytest.mark.usefixtures("no_drawing")
def test_nothing_is_drawn_that_cannot_be_written(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, others: Any, message: str
) -> None:
    for folder in ("taken.png", "image-1.png", "full/weights.png"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    arguments = ("--prompt", "a ball", "--gradient", "text_to_image", "--steps", 1, "--out", out, *others)
    result = run("generate", bundle, *arguments)
    assert result.exit_code == 2, result.exception
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.usefixtures("no_drawing")
def test_what_can_be_written_is_drawn(bundle: Path, tmp_path: Path) -> None:
    arguments = ("--prompt", "a ball", "--gradient", "text_to_image", "--steps", 1)
    assert isinstance(run("generate", bundle, "--out", tmp_path / "x.png", *arguments).exception, Drawn)


def test_a_plan_is_not_half_written(tmp_path: Path) -> None:
    out = tmp_path / "scene.png"
    result = run("plan", "--prompt", "a ball", "--out", out, "--picture", out)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--out and --picture both write" in result.stderr
    refused = run("plan", "--prompt", "a ball", "--out", tmp_path / "a.json", "--picture", tmp_path / "a.h5")
    assert refused.exit_code == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "prompt", ["a $5 bill left of a $10 bill", "a $x^{ ball", "ein Würfel, 猫, кот, קוב", "_ball", "a 100% ball"]
)
def test_prompts_are_drawn_as_plain_text(tmp_path: Path, prompt: str) -> None:
    """Not as mathematics, and with nothing on stderr where a font lacks them."""
    result = run("plan", "--prompt", prompt, "--picture", tmp_path / "x.png")
    assert (result.exit_code, result.stderr) == (0, ""), result.exception
    assert Image.open(tmp_path / "x.png").width > 100


@pytest.mark.parametrize(("height", "width"), [(0, 9), (9, 10**6), (8000, 9), (9, -1)])
def test_sizes_that_cannot_be_drawn(tmp_path: Path, height: int, width: int) -> None:
    layout = tmp_path / "layout.json"
    layout.write_text('{"regions": [{"phrase": "x", "box": [0, 0, 1, 1]}]}')
    result = run("show", layout, "--out", tmp_path / "x.png", "--height", height, "--width", width)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1), result.exception


@pytest.mark.parametrize("end", ["mend it", "z" * 80])
def test_long_lines_keep_their_start_and_their_end(end: str) -> None:
    line = one_line(f"error: the file\n{'x ' * 5000}is wrong. {end}")
    assert len(line) <= 300
    assert line.startswith("error: the file x x")
    assert line.endswith(end)


def test_a_command_is_never_cut() -> None:
    command = f"python -m export build x --out {'y' * 400}"
    line = one_line(f"error: {'x' * 500}. Build it with: {command}")
    assert line.startswith("error: xxx") and line.endswith(f"xxx… Build it with: {command}")
    assert len(line) == 300 + 1 + len(f"Build it with: {command}")
    assert one_line(f"error: {'x' * 500}: {command}").endswith(f"xxx… {command}")


def test_short_lines_stay() -> None:
    assert one_line("short  line\n") == "short line"
    assert one_line("x" * 300) == "x" * 300


def test_encoded_is_what_is_written(tmp_path: Path) -> None:
    image = Image.linear_gradient("L").convert("RGB")
    write_picture(tmp_path / "x.png", image)
    assert (tmp_path / "x.png").read_bytes() == encoded(Path("y.png"), image)
