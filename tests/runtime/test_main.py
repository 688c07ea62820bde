"""The command line, as a user runs it: exit codes, the last line, and one clear line for every mistake."""

import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from runtime import Layout, RealCompo, RealCompoError
from runtime.__main__ import app, writing
from runtime.spatial.control_images import control_image

PROMPT = "a red ball and a blue cube"
REGIONS = [
    {"phrase": "a red ball", "box": [0.05, 0.5, 0.45, 0.9]},
    {"phrase": "a blue cube", "box": [0.5, 0.02, 0.95, 0.5]},
]


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    path = tmp_path / "layout.json"
    path.write_text(json.dumps({"prompt": PROMPT, "regions": REGIONS}))
    return path


@pytest.fixture(autouse=True)
def plain_warnings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The command line shows warnings its own way; undo that."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        yield


def generate(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["generate", *map(str, arguments)])


def assert_refused(result: Result, message: str) -> None:
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_picture_equals_the_python_api(bundle: Path, pipe: RealCompo, layout: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "image.png"
    result = generate(bundle, "--layout", layout, "--out", out, "--steps", 4, "--seed", 5, "--sampler", "ddim")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == str(out)
    wanted = pipe(PROMPT, layout=Layout.from_file(layout), steps=4, seed=5, sampler="ddim").images[0]
    np.testing.assert_array_equal(np.asarray(Image.open(out)), np.asarray(wanted))
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (("--form", "released"), {"form": "released"}),
        (("--form", "released", "--no-hard-regions"), {"form": "released", "hard_regions": False}),
        (("--update-from", "start", "--one-token"), {"update_from": "start", "one_token": True}),
        (
            ("--gradient-from", "spatial", "--coefficient-seed", 31),
            {"gradient_from": ["spatial"], "coefficient_seed": 31},
        ),
    ],
)
def test_form_and_its_parts(
    bundle: Path, pipe: RealCompo, layout: Path, tmp_path: Path, options: tuple[object, ...], wanted: dict[str, Any]
) -> None:
    common = {"steps": 5, "coefficient_scale": 1e8}
    result = generate(
        bundle, "--layout", layout, "--out", tmp_path / "x.png", "--steps", 5, "--coefficient-scale", 1e8, *options
    )
    assert result.exit_code == 0, result.stderr
    drawn, plain = (
        np.asarray(pipe(PROMPT, layout=Layout.from_file(layout), **common, **knobs).images[0]) for knobs in (wanted, {})
    )
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "x.png")), drawn)
    assert (drawn != plain).any()


def test_an_unknown_form_is_one_line(bundle: Path, layout: Path, tmp_path: Path) -> None:
    result = generate(bundle, "--layout", layout, "--out", tmp_path / "x.png", "--form", "draft")
    assert_refused(result, "form='draft' is unknown; use paper or released")


def test_several_pictures_are_numbered(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "image.png"
    arguments = ("--prompt", PROMPT, "--gradient", "text_to_image", "--steps", 2, "--num-images", 3)
    result = generate(bundle, "--out", out, *arguments)
    assert result.stdout.splitlines() == [str(tmp_path / f"image-{k}.png") for k in range(3)]
    assert all(Image.open(path).size == (32, 32) for path in tmp_path.glob("image-*.png"))


@pytest.mark.parametrize("gradient", ["exact", "surrogate", "text_to_image", "spatial", "fixed:1"])
def test_traces(bundle: Path, layout: Path, tmp_path: Path, gradient: str) -> None:
    arguments = ("--out", tmp_path / "image.png", "--traces", tmp_path / "traces", "--steps", 3)
    result = generate(bundle, "--layout", layout, "--gradient", gradient, *arguments)
    assert result.exit_code == 0, result.stderr
    drawn = {path.name: Image.open(path).convert("RGB") for path in (tmp_path / "traces").iterdir()}
    assert set(drawn) == {"layout.png", "weights.png", "attention.png", "loss.png"}
    assert all(len(set(image.reduce(8).get_flattened_data())) > 20 for image in drawn.values())


def test_traces_without_a_layout(bundle: Path, tmp_path: Path) -> None:
    arguments = ("--out", tmp_path / "image.png", "--traces", tmp_path / "traces", "--steps", 2, "--num-images", 2)
    result = generate(bundle, "--prompt", PROMPT, "--gradient", "text_to_image", *arguments)
    assert result.exit_code == 0, result.stderr
    names = {path.name for path in (tmp_path / "traces").iterdir()}
    assert names == {"layout-0.png", "layout-1.png", "weights-0.png", "weights-1.png"}


def test_traces_of_every_kind_of_region(bundle: Path, tmp_path: Path) -> None:
    Image.fromarray(np.eye(8, dtype=bool)).save(tmp_path / "mask.png")
    regions = [
        {"phrase": "a red ball", "keypoints": [[0.2, 0.2], [0.4, 0.9], *[None] * 16]},
        {"phrase": "a blue cube", "mask": "mask.png"},
    ]
    layout = tmp_path / "layout.json"
    layout.write_text(json.dumps({"prompt": PROMPT, "regions": regions}))
    arguments = ("--out", tmp_path / "image.png", "--traces", tmp_path / "traces", "--steps", 2)
    result = generate(bundle, "--layout", layout, "--gradient", "surrogate", *arguments)
    assert result.exit_code == 0, result.stderr
    assert len(list((tmp_path / "traces").iterdir())) == 4


def show(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["show", *map(str, arguments)])


def test_show_draws_the_regions(layout: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "layout.png"
    result = show(layout, "--out", out, "--width", 256, "--height", 128)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [str(out)]
    assert len(set(Image.open(out).convert("RGB").reduce(8).get_flattened_data())) > 20


@pytest.mark.parametrize(
    ("example", "control"), [("keypoints", "openpose"), ("masks", "segmentation"), ("depth", "depth")]
)
def test_show_writes_control_images(tmp_path: Path, example: str, control: str) -> None:
    path = Path("examples") / example / "layout.json"
    result = show(path, "--control", control, "--out", tmp_path / "out.png", "--height", 64, "--width", 96)
    assert result.exit_code == 0, result.stderr
    wanted = control_image(Layout.from_file(path), control, (64, 96)).permute(1, 2, 0).numpy()
    assert np.abs(np.asarray(Image.open(tmp_path / "out.png")) / 255 - wanted).max() < 0.5 / 255 + 1e-6


def test_bad_input_of_show(layout: Path, tmp_path: Path) -> None:
    good = (layout, "--out", tmp_path / "out.png")
    assert_refused(show(tmp_path / "none.json", *good[1:]), "cannot read the layout")
    assert_refused(
        show(*good, "--control", "sketch"), "--control sketch is unknown; use one of openpose, segmentation, depth"
    )
    assert_refused(show(*good, "--control", "canny"), "the layout has no control.canny")
    assert_refused(show(*good, "--control", "depth"), "the layout has no depth")
    assert_refused(show(*good, "--height", 0), "height=0 is out of range")
    assert_refused(show(layout, "--out", tmp_path / "out.xyz"), ".xyz is not a picture format")
    assert not (tmp_path / "out.png").exists()


def test_schema_is_the_published_one() -> None:
    result = CliRunner().invoke(app, ["schema"])
    assert result.stdout == Path("docs/layout.schema.json").read_text(), (
        "python -m runtime schema > docs/layout.schema.json"
    )


def test_a_cut_prompt_is_a_warning_line(bundle: Path, layout: Path, tmp_path: Path) -> None:
    prompt = f"{PROMPT} and a green cone left of a ring"
    result = generate(bundle, "--layout", layout, "--prompt", prompt, "--out", tmp_path / "image.png", "--steps", 1)
    assert result.exit_code == 0
    assert "warning: the end of the prompt was cut off" in result.stderr
    assert "'cone left of a ring'" in result.stderr


def test_bad_input(bundle: Path, layout: Path, tmp_path: Path) -> None:
    out = tmp_path / "image.png"
    good = (bundle, "--layout", layout, "--out", out)
    assert_refused(generate(tmp_path, *good[1:]), "is not a bundle")
    assert_refused(generate(bundle, "--layout", tmp_path / "none.json", "--out", out), "cannot read the layout")
    assert_refused(generate(*good, "--backend", "tensorrt"), "tensorrt")  # no library, or no GPU
    assert_refused(generate(*good, "--num-images", 0), "num_images=0")
    assert_refused(generate(bundle, "--out", out), "there is no prompt")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--steps", "0"), "steps=0 is out of range"),
        (("--prompt", "a ring"), "the prompt 'a ring' does not contain the region's phrase 'a red ball'"),
        (("--planner", "chat"), "--planner chat plans nothing without --plan; add --plan"),
        (("--gradient", "magic"), "gradient='magic' is unknown; use one of exact"),
        (("--gradient-from", "depth"), "gradient_from=('depth',) does not name models"),
        (("--sampler", "heun"), "use one of ddim, plms, dpm++2m"),
    ],
)
def test_bad_options(bundle: Path, layout: Path, tmp_path: Path, arguments: tuple[str, str], message: str) -> None:
    assert_refused(generate(bundle, "--layout", layout, "--out", tmp_path / "image.png", *arguments), message)
    assert not (tmp_path / "image.png").exists()


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("layout.json/image.png", "cannot write"),
        ("image.xyz", ".xyz is not a picture format; use .png"),
        ("image", "no suffix is not a picture format"),
        ("folder.png", "is a folder"),
        ("x" * 300 + ".png", "cannot write"),
    ],
)
def test_unwritable_output_is_found_before_the_work_starts(
    layout: Path, tmp_path: Path, out: str, message: str
) -> None:
    (tmp_path / "folder.png").mkdir()
    result = generate(tmp_path / "no bundle", "--layout", layout, "--out", tmp_path / out)
    assert_refused(result, message)


def test_unwritable_traces_are_found_before_the_work_starts(layout: Path, tmp_path: Path) -> None:
    arguments = ("--layout", layout, "--out", tmp_path / "image.png", "--traces", layout)
    assert_refused(generate(tmp_path / "no bundle", *arguments), "cannot write")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk() -> None:
    refused = pytest.raises(RealCompoError, match=r"cannot write image\.png: No space left on device")
    with refused, writing(Path("image.png")):
        Path("/dev/full").write_bytes(b"x")


def test_help_has_examples() -> None:
    result = CliRunner().invoke(app, ["generate", "--help"])
    assert result.exit_code == 0
    assert "Examples" in result.stdout
    assert "python -m runtime generate engines/tabletop --layout scene.json" in " ".join(result.stdout.split())


def test_interrupt_is_one_line_and_130(bundle: Path, layout: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "runtime", "generate", str(bundle), "--layout", str(layout), "--steps", "900"]
    with subprocess.Popen(
        [*command, "--out", str(tmp_path / "image.png"), "--num-images", "64"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TTY_INTERACTIVE": "1", "TTY_COMPATIBLE": "1"},  # or rich draws no bar into a pipe
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a background job inherits it ignored
    ) as process:
        assert process.stderr is not None
        shown = ""
        while "drawing" not in shown:  # the bar is up: the run is under way
            shown += process.stderr.read(1)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert rest.endswith("interrupted\n")
    assert "Traceback" not in rest
    assert not list(tmp_path.glob("*.png"))
