"""Public suites: their folders, what stops and goes on, broken pictures, their scorers' results, tables."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.planning.nsr1k import Counting, Spatial
from benchmarks.suite.in_scorer import script
from benchmarks.suite.kind import Run, Task
from benchmarks.suite.nsr_1k import NSR1K, RULES
from benchmarks.suite.overlaybench import OverLayBench
from benchmarks.suite.pictures import is_whole
from benchmarks.suite.scoring import score
from runtime import Layout, RealCompo, RealCompoError, Region
from tests.benchmarks import suite_checkouts as checkouts
from tests.benchmarks.suite_checkouts import TEXTS
from tests.benchmarks.suite_formats import check_hrs, check_nsr, check_overlaybench, check_t2i
from tests.runtime.serving.server import serving

MODES = ("text_to_image", "spatial")
QUICK = ("--steps", "2", "--guidance-scale", "2.5", "--modes", ",".join(MODES), "--images", "2", "--batch", "3")
COLOR = ("--tasks", "color")


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["suite", *map(str, arguments)])


def run(*arguments: object) -> dict[str, Any]:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def refused(*arguments: object) -> str:
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert [line for line in lines if not line.rstrip().endswith("drawing")] == lines[-1:]
    return lines[-1]


def side_of(bundle: Path) -> int:
    return int(json.loads((bundle / "manifest.json").read_text())["image_size"][0])


def tree(folder: Path, modes: tuple[str, ...] = MODES) -> dict[str, bytes]:
    """The pictures, by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for mode in modes
        for path in sorted((folder / mode).rglob("*.[pj][np]g"))
    }


@pytest.fixture(scope="module")
def t2i(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkouts.t2i_checkout(tmp_path_factory.mktemp("t2i-checkout"))


@pytest.fixture(scope="module")
def colors(t2i: Path, tabletop_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """T2I-CompBench's colours, drawn and scored in one go."""
    out = tmp_path_factory.mktemp("colors")
    options = ("--scorer-python", sys.executable, "--json", out / "result.json")
    run("t2i-compbench", tabletop_bundle, "--checkout", t2i, "--out", out, *QUICK, *COLOR, *options)
    return out


def test_t2i_compbenchs_folders(t2i: Path, colors: Path, tabletop_bundle: Path, tmp_path: Path) -> None:
    tasks = ("shape", "3d_spatial")
    run("t2i-compbench", tabletop_bundle, "--checkout", t2i, "--out", tmp_path, *QUICK, "--tasks", ",".join(tasks))
    for mode in MODES:
        for category in (colors / mode / "color", *(tmp_path / mode / task for task in tasks)):
            check_t2i(category, TEXTS, images=2, side=side_of(tabletop_bundle))


def test_nsr_1ks_folders(tabletop_bundle: Path, tmp_path: Path) -> None:
    checkout, out = checkouts.nsr_checkout(tmp_path / "checkout"), tmp_path / "out"
    found = run(
        "nsr-1k", tabletop_bundle, "--checkout", checkout, "--out", out, *QUICK, "--scorer-python", sys.executable
    )
    for mode in MODES:
        check_nsr(out / mode / "counting", [31, 7], 2, side_of(tabletop_bundle))
        check_nsr(out / mode / "spatial", [5], 2, side_of(tabletop_bundle))
    assert not (checkout / "eval_score").exists()
    assert found["layouts"]["judged"]["spatial"] == {"acc": 0.75, "missing": 2}
    assert found["layouts"]["judged"]["counting"]["Precision"] == pytest.approx(0.5)
    assert [row["mean"] for row in found["rows"]] == [0.5] * 4  # every second picture's objects are there, as asked
    assert {row["mean"] for row in found["differences"]} == {0}


def test_hrs_folders(tabletop_bundle: Path, tmp_path: Path) -> None:
    checkout, out = checkouts.hrs_checkout(tmp_path / "checkout"), tmp_path / "out"
    run("hrs", tabletop_bundle, "--checkout", checkout, "--out", out, *QUICK)
    for mode in MODES:
        for task in ("counting", "spatial", "size", "color"):
            check_hrs(out / mode / task, len(TEXTS), 2, side_of(tabletop_bundle))


def test_overlaybenchs_folders_and_layouts(tabletop_bundle: Path, tmp_path: Path) -> None:
    checkout, out = checkouts.overlaybench_checkout(tmp_path / "checkout"), tmp_path / "out"
    run("overlaybench", tabletop_bundle, "--checkout", checkout, "--out", out, *QUICK)
    for mode in MODES:
        for split in ("simple", "medium", "hard"):
            check_overlaybench(out / mode / split, ["00000000", "00000001"], [1, 2], side_of(tabletop_bundle))
    kept = json.loads((out / "layouts.json").read_text())
    assert kept["planner"] == "the suite's own"
    first = kept["tasks"]["hard"][0]
    assert first["prompt"] == f"{TEXTS[0]} cyan cube."
    assert first["regions"] == [
        {"phrase": "ball", "box": [0.0, 0.0, 0.5, 1.0]},
        {"phrase": "cyan cube", "box": [0.5, 0.25, 1.0, 1.0]},
    ]


def test_a_picture_is_the_librarys(colors: Path, tabletop: RealCompo) -> None:
    """Of the second prompt the second picture: seed 43, the suite's own first being 42."""
    row = json.loads((colors / "layouts.json").read_text())["tasks"]["color"][1]
    layout = Layout([Region(region["phrase"], box=tuple(region["box"])) for region in row["regions"]])
    told = {"steps": 2, "guidance_scale": 2.5, "gradient": "spatial", "seed": 43}
    (image,) = tabletop(row["prompt"], layout=layout, **told).images
    drawn = Image.open(colors / "spatial" / "color" / "samples" / f"{TEXTS[1]}_000003.png")
    np.testing.assert_array_equal(np.asarray(drawn), np.asarray(image))


def test_killed_at_any_moment_it_goes_on_to_the_same_files(
    t2i: Path, colors: Path, tabletop_bundle: Path, tmp_path: Path
) -> None:
    """Killed without notice, twice, once with pictures drawn; then with two processes."""
    options = ["t2i-compbench", tabletop_bundle, "--checkout", t2i, "--out", tmp_path, *QUICK, *COLOR]
    command = [sys.executable, "-m", "benchmarks", "suite", *map(str, options)]
    for pictures in (0, 2):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and len(tree(tmp_path)) <= pictures:
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
    assert all(is_whole(tmp_path / name, side_of(tabletop_bundle)) for name in tree(tmp_path))
    run(*options, "--processes", "2")
    assert tree(tmp_path) == tree(colors)
    for mode in MODES:
        check_t2i(tmp_path / mode / "color", TEXTS, images=2, side=side_of(tabletop_bundle))


def test_a_server_draws_the_same(t2i: Path, colors: Path, tabletop_bundle: Path, tmp_path: Path) -> None:
    with serving(tabletop_bundle) as server:
        url = f"http://127.0.0.1:{server.port}"
        run("t2i-compbench", url, "--checkout", t2i, "--out", tmp_path, *QUICK, *COLOR, "--processes", "3")
        assert tree(tmp_path) == tree(colors)
        line = refused("t2i-compbench", url, "--checkout", t2i, "--out", tmp_path, *COLOR, "--leave-out")
        assert "takes the bundle's folder" in line


def test_missing_and_truncated_pictures_are_found_and_no_row_is_shown(
    t2i: Path, colors: Path, tabletop_bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(colors, out)
    samples = out / "spatial" / "color" / "samples"
    first, second, *_ = sorted(samples.iterdir())
    first.write_bytes(first.read_bytes()[:-5])  # all its pixels are there, and not its end
    second.unlink()
    options = ["t2i-compbench", tabletop_bundle, "--checkout", t2i, "--out", out, *QUICK, *COLOR]
    found = run(*options, "--scorer-python", sys.executable, "--stages", "scores")
    assert {row["mode"] for row in found["rows"]} == {"text_to_image"} and found["differences"] == []
    (unfinished,) = found["unfinished"]
    assert unfinished["mode"] == "spatial" and "missing or broken: 2" in unfinished["why"]
    again = run(*options, "--scorer-python", sys.executable)
    assert tree(out) == tree(colors)
    assert again["unfinished"] == [] and len(again["rows"]) == 2


@pytest.mark.parametrize("size", [0, 10, 200, -1])
def test_whole_pictures(tmp_path: Path, size: int) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8))
    for suffix in (".png", ".jpg"):
        path = tmp_path / f"picture{suffix}"
        noise.save(path)
        assert is_whole(path, 32) and not is_whole(path, 64)
        path.write_bytes(path.read_bytes()[:size])
        assert not is_whole(path, 32)


def test_a_foreign_file_among_the_pictures_is_found(
    t2i: Path, colors: Path, tabletop_bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(colors, out)
    (out / "spatial" / "color" / "samples" / "grid.png").write_bytes(b"")
    found = run("t2i-compbench", tabletop_bundle, "--checkout", t2i, "--out", out, *QUICK, *COLOR)
    (unfinished,) = found["unfinished"]
    assert "grid.png" in unfinished["why"]


def brightness(path: Path) -> float:
    """As the stand-in scorer rounds it."""
    grey = Image.open(path).convert("L").resize((1, 1)).getpixel((0, 0))
    assert isinstance(grey, int)
    return round(grey / 255, 4)


def test_rows_and_differences_are_of_the_scorers_answers(colors: Path) -> None:
    found = json.loads((colors / "result.json").read_text())
    each = {}
    for mode in MODES:
        names = [f"{text}_{2 * i + k:06}.png" for i, text in enumerate(TEXTS) for k in range(2)]
        pictures = [brightness(colors / mode / "color" / "samples" / name) for name in names]
        each[mode] = np.reshape(pictures, (3, 2)).mean(axis=1)
    for row in found["rows"]:
        assert row["mean"] == pytest.approx(each[row["mode"]].mean(), abs=1e-4)
        assert row["low"] == pytest.approx(each[row["mode"]].min(), abs=1e-4)  # of three prompts: one, three times
        assert row["high"] == pytest.approx(each[row["mode"]].max(), abs=1e-4)
        assert row["said"] == pytest.approx(row["mean"], abs=1e-4)
    (one,) = found["differences"]
    assert (one["mode"], one["less"]) == ("spatial", "text_to_image")
    assert one["mean"] == pytest.approx((each["spatial"] - each["text_to_image"]).mean(), abs=1e-4)


def test_report_shows_it(colors: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert CliRunner().invoke(app, ["report", str(colors / "result.json"), "--out", str(page)]).exit_code == 0
    found = json.loads((colors / "result.json").read_text())
    assert "T2I-CompBench" in page.read_text()
    assert all(f"{row['mean']:.3f}" in page.read_text() for row in found["rows"])


def test_each_scorer_of_t2i_compbench_is_run_where_and_as_it_wants(
    t2i: Path, tabletop_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All prompts of `complex`, ten pictures each, for 3-in-1; only it is told --complex. The Python is given from
    the present folder, in which no scorer runs."""
    monkeypatch.chdir(tmp_path)
    Path("py").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    Path("py").chmod(0o755)
    options = [
        "--steps",
        "1",
        "--guidance-scale",
        "1",
        "--modes",
        "text_to_image",
        "--scorer-python",
        f"../{tmp_path.name}/py",
    ]
    command = ["t2i-compbench", tabletop_bundle, "--checkout", t2i, "--out", tmp_path, *options]
    tasks = ["spatial", "3d_spatial", "numeracy", "non_spatial"]
    found = run(*command, "--batch", "30")
    assert {row["task"] for row in found["rows"]} >= {"color", "shape", "texture", "complex", *tasks}
    told = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("told_complex")}
    of_complex = "text_to_image/complex/"
    assert told == {
        f"{of_complex}labels/annotation_obj_detection_2d/told_complex",
        f"{of_complex}annotation_clip/told_complex",
    }
    assert "3-in-1" in refused(*command, "--tasks", "complex", "--prompts", "2")


def test_scored_pictures_are_not_scored_again_and_others_are(
    t2i: Path, colors: Path, tabletop_bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(colors, out)
    options = ["t2i-compbench", tabletop_bundle, "--checkout", t2i, "--out", out, *QUICK, *COLOR, "--stages", "scores"]
    assert len(run(*options)["rows"]) == 2  # without a Python
    picture = next((out / "spatial" / "color" / "samples").iterdir())
    side = side_of(tabletop_bundle)
    Image.new("RGB", (side, side), "white").save(picture)
    found = run(*options)
    assert [one["mode"] for one in found["unfinished"]] == ["spatial"]


def test_a_scorer_that_fails_or_contradicts_itself(colors: Path, tabletop_bundle: Path, tmp_path: Path) -> None:
    out, checkout = tmp_path / "out", checkouts.t2i_checkout(tmp_path / "checkout")
    shutil.copytree(colors, out)
    shutil.rmtree(out / "scores")
    options = ["t2i-compbench", tabletop_bundle, "--checkout", checkout, "--out", out, *QUICK, *COLOR]
    options += ["--scorer-python", sys.executable]
    blip = checkout / "BLIPvqa_eval" / "BLIP_vqa.py"
    good = blip.read_text()
    blip.write_text("raise ImportError('no torch here')")
    assert "ended with 1: ImportError: no torch here" in refused(*options)
    blip.write_text(good.replace("enumerate(scores)", "enumerate(scores[:-1])"))
    assert "5 answers that are not of the 6 pictures" in refused(*options)
    blip.write_text(good.replace("str(mean)", '"0.999"'))
    assert "the scorer says 0.999" in refused(*options)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--steps", "3"), "drawn otherwise (options)"),
        (("--images", "3"), "drawn otherwise (images)"),
        (("--seed", "1"), "drawn otherwise (seed)"),
        (("--tasks", "colour"), "--tasks colour is unknown"),
        (("--modes", "sharp"), "'sharp' is unknown"),
        (("--stages", "drawing"), "--stages drawing is unknown"),
        (("--planner", "chat"), "has layouts by offline"),
        (("--checkout", "/nowhere"), "cannot read the prompts"),
    ],
)
def test_what_does_not_go_together(
    t2i: Path, colors: Path, tabletop_bundle: Path, options: tuple[str, ...], line: str
) -> None:
    before = tree(colors)
    told = ["t2i-compbench", tabletop_bundle, "--checkout", t2i, "--out", colors, *QUICK, *COLOR, *options]
    result = invoke(*told)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert line in result.stderr
    assert tree(colors) == before


def test_layouts_are_of_the_checkouts_prompts(tabletop_bundle: Path, tmp_path: Path) -> None:
    checkout, file = checkouts.t2i_checkout(tmp_path / "checkout"), tmp_path / "layouts.json"
    command = ["t2i-compbench", tabletop_bundle, "--checkout", checkout, "--out", tmp_path / "out", "--layouts", file]
    assert invoke(*command, *COLOR, "--stages", "layouts").exit_code == 0
    planned = json.loads(file.read_text())
    assert list(planned["tasks"]) == ["color"]
    assert invoke(*command, "--stages", "layouts").exit_code == 0
    assert len(json.loads(file.read_text())["tasks"]) == 8
    assert json.loads(file.read_text())["tasks"]["color"] == planned["tasks"]["color"]
    (checkout / "examples" / "dataset" / "color_val.txt").write_text(f"{TEXTS[0]}\na pink ball\n")
    assert "other prompts than the checkout, from number 1 on" in refused(*command, *COLOR)
    hrs = checkouts.hrs_checkout(tmp_path / "hrs")
    assert "is t2i-compbench's" in refused("hrs", tabletop_bundle, "--checkout", hrs, *command[4:])


def test_words_that_the_bundle_does_not_know(tabletop_bundle: Path, tmp_path: Path) -> None:
    checkout = checkouts.t2i_checkout(tmp_path / "checkout")
    (checkout / "examples" / "dataset" / "color_val.txt").write_text("a red ball and a giraffe\na blue cube\n")
    command = ["t2i-compbench", tabletop_bundle, "--checkout", checkout, "--out", tmp_path / "out", *QUICK, *COLOR]
    line = refused(*command)
    assert "1 of 2 layouts of color do not fit this bundle; --leave-out" in line and "giraffe" in line
    found = run(*command, "--leave-out")["tasks"]["color"]
    assert (found["regions"], found["left_out"], found["strange"], found["without_layout"]) == (3, 1, 1, 0)


@pytest.mark.parametrize(
    ("asked", "found", "right", "of"),
    [
        (Counting("", "real", (("dog", 2), ("cat", 1))), {"dog": [0, 0], "cat": []}, 1, 2),
        (Counting("", "comparison", (("car", 4), ("bus", 2))), {"car": [0] * 4, "bus": [0] * 3}, 1, 2),
        (Counting("", "comparison", (("car", 4), ("bus", 4))), {"car": [0] * 4, "bus": [0] * 3}, 0, 2),
        (Counting("", "comparison", (("car", 4), ("bus", 5))), {"car": [0] * 4, "bus": [0] * 9}, 1, 2),
        (Spatial("", "", "cat", "dog", "left"), {"cat": [[0.9, [0, 0, 9, 9]]], "dog": [[0.9, [50, 0, 60, 9]]]}, 1, 1),
        (Spatial("", "", "cat", "dog", "top"), {"cat": [[0.9, [0, 0, 9, 9]]], "dog": [[0.9, [50, 0, 60, 9]]]}, 0, 1),
        (
            Spatial("", "", "dog", "cat", "next to"),
            {"cat": [[0.9, [0, 0, 9, 9]]], "dog": [[0.9, [50, 0, 60, 9]]]},
            1,
            1,
        ),
        (Spatial("", "", "dog", "cat", "next to"), {"cat": [[0.9, [0, 0, 9, 9]]]}, 0, 1),
    ],
)
def test_nsr_1ks_rules_of_pictures(asked: Counting | Spatial, found: Any, right: int, of: int) -> None:
    """Worked out by hand from eval_counting.py and eval_spatial.py, where a comparison counts once, of two objects."""
    rule = RULES["counting" if isinstance(asked, Counting) else "spatial"]
    assert rule(asked, found) == (right, of)
    assert NSR1K.tasks == tuple(RULES)


HRS_RULE = """
def load_gt(path):
    return [{"objs": line.split()} for line in open(path)]
def load_pred(pkl_pth, iter_idx):
    import json
    return {int(i): found for i, found in json.load(open(pkl_pth))[iter_idx].items()}
def cal_acc(asked, found, level):
    (sample,), there = asked, found[0]
    if "crash" in there:
        raise KeyError(4)
    return 100 * (sample["objs"] == there)
"""


def test_hrss_functions_are_asked_prompt_by_prompt(tmp_path: Path) -> None:
    (tmp_path / "rule.py").write_text(HRS_RULE)
    (tmp_path / "prompts.csv").write_text("cat dog\ncow\nbus\n")
    seen = [{0: ["cat", "dog"], 1: ["cat"], 2: ["crash"]}, {0: ["cat"], 1: ["dog"], 2: ["crash"]}]
    (tmp_path / "found").write_text(json.dumps(seen))
    told = ["spatial", "rule.py", "prompts.csv", "found", ".", "3", "2", "out.json"]
    subprocess.run([sys.executable, script("hrs.py"), *told], cwd=tmp_path, check=True)
    assert json.loads((tmp_path / "out.json").read_text()) == {"accuracy": [0.5, 0, None]}


def test_overlaybenchs_meter_is_run_and_read(tmp_path: Path) -> None:
    """Two prompts, two seeds, of pictures that a meter takes."""
    checkout, drawn = checkouts.overlaybench_checkout(tmp_path / "checkout"), tmp_path / "spatial"
    suite = OverLayBench()
    task = Task("simple", suite.prompts(checkout, "simple"), images=2, seed=1)
    for i in range(2):
        for k in range(2):
            path = drawn / suite.picture(task, i, k)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (512, 512)).save(path)
    suite.check(task, 512)
    with pytest.raises(RealCompoError, match="512 or 1024 pixels"):
        suite.check(task, 64)
    found = score(suite, Run(checkout, task, drawn, tmp_path / "results", 512), Path(sys.executable))
    assert found is not None
    values = {name: list(figures) for name, figures in found.scores.items()}
    assert values.pop("SR_R") == pytest.approx([np.nan] * 2, nan_ok=True)  # no relations are asked
    assert values.pop("CLIP_local") == pytest.approx([np.nan] * 2, nan_ok=True)
    assert values == {"mIoU": [0.5] * 2, "O-mIoU": [0.125] * 2, "SR_E": [1, 1], "CLIP_global": [0.25] * 2}


def test_overlaybench_without_its_data_says_how_to_make_it(tmp_path: Path, tabletop_bundle: Path) -> None:
    line = refused("overlaybench", tabletop_bundle, "--checkout", tmp_path, "--out", tmp_path / "out")
    assert "overlaybench_prompts.py" in line and os.fspath(tmp_path) in line
