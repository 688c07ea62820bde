"""Acceptance: parts that crash, hang and refuse, the parts that a CPU can run, the command and its files."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.acceptance import measure
from benchmarks.acceptance.measure import run_parts
from benchmarks.acceptance.outcome import Job, NotHere, Outcome
from benchmarks.acceptance.parts import check, gpu_tests, pictures, roofline
from benchmarks.acceptance.parts.gpus import on_first_gpu
from benchmarks.acceptance.process import Ended, run_part
from benchmarks.acceptance.table import PARTS, Part
from benchmarks.machine import ROOT
from benchmarks.roofline.gpus import GPUS, ceilings_of
from runtime.bundle.golden import read_golden, write_golden
from runtime.bundle.manifest import FileSpec, read_manifest, sha256_of, write_manifest
from runtime.errors import RealCompoError

NEVER = 3600.0  # seconds that no test here waits for
MINUTES = "600"  # of which every part has far more than it needs


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path / "no bundle", "auto", steps=2, rounds=1, pictures=tmp_path)


def ill(how: str, seconds: float = NEVER) -> Part:
    return Part(how, "tests.benchmarks.ill_part", "ends in its own way", seconds, {"how": how})


def endings(ended: list[Ended]) -> dict[str, str]:
    return {one.part.name: one.outcome.status for one in ended}


def test_no_part_takes_the_others_along(job: Job) -> None:
    ended = list(run_parts([ill("crash"), ill("refuse"), ill("break"), ill("skip"), ill("pass")], job, NEVER / 60))
    assert endings(ended) == {
        "crash": "failed",
        "refuse": "failed",
        "break": "failed",
        "skip": "skipped",
        "pass": "passed",
    }
    words = {one.part.name: one.outcome.words for one in ended}
    assert words["crash"] == "its process crashed (SIGSEGV); its last words: at work"
    assert words["refuse"] == "error: the bundle is upside down; turn it"
    assert words["break"] == "ValueError: a bug" and words["skip"] == "it is Sunday"
    assert ended[0].log == ("at work",) and ended[-1].log == ()
    assert ended[-1].outcome.found == {"offline": "1"}


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_a_part_that_hangs_is_ended_with_its_children(job: Job) -> None:
    """Its last words are from before: not what it says to being ended."""
    found = run_part(ill("hang"), job, limit=20.0)
    assert found.outcome == Outcome("failed", "it was ended after 20 s; its last words: step 7 of 9")
    assert found.log == ("at work", "step 7 of 9")
    child = int((job.pictures / "child").read_text())
    for _ in range(600):
        if not is_alive(child):
            return
        time.sleep(0.1)
    raise AssertionError("the part's child lives on")


def test_a_part_without_time_is_named(job: Job) -> None:
    (only,) = run_parts([ill("pass")], job, minutes=0.01)
    assert only.outcome == Outcome(
        "skipped", "no time was left of 0.01 minutes; run it with --only 'pass' --minutes 60"
    )
    (again,) = run_parts([ill("pass")], job, minutes=60)
    assert again.outcome.status == "passed"


def test_few_parts_share_all_the_time(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = []
    monkeypatch.setattr(measure, "run_part", lambda part, job, limit: limits.append(limit) or measure.skip(part, ""))
    list(run_parts([ill("pass", 90)], job, minutes=8))
    list(run_parts([ill("pass", 90), ill("skip", 30)], job, minutes=8))
    list(run_parts(list(PARTS.values()), job, minutes=8))
    assert limits[:3] == pytest.approx([480, 360, 120], abs=1)
    assert limits[3:] == pytest.approx([part.seconds for part in PARTS.values()])


@pytest.fixture(scope="module")
def page(tabletop_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the parts that are quick on a CPU."""
    out = tmp_path_factory.mktemp("acceptance") / "new" / "page.html"
    names = [name for name in PARTS if name not in ("latency", "speed", "roofline")]
    only = [word for name in names for word in ("--only", name)]
    result = CliRunner().invoke(
        app, ["acceptance", str(tabletop_bundle), "--out", str(out), "--device", "cpu", "--minutes", MINUTES, *only]
    )
    assert result.exit_code == 0, result.output
    last = json.loads(result.stdout.splitlines()[-1])
    assert last == json.loads(out.with_suffix(".json").read_text())
    assert "check onnx: passed in" in result.stderr and "gpu tests: skipped in" in result.stderr
    return out


def test_a_cpu_says_what_it_ran_and_why_not_the_rest(page: Path) -> None:
    found = json.loads(page.with_suffix(".json").read_text())
    parts = {part["name"]: part for part in found["parts"]}
    assert {name: part["status"] for name, part in parts.items() if part["status"] != "skipped"} == {
        "check onnx": "passed",
        "memory": "passed",
    }
    assert found["counts"] == {"passed": 2, "skipped": 5}
    assert "it takes a GPU" in parts["check onnx-tensorrt"]["words"]
    for flavour in ("tensorrt-rtx", "tensorrt"):
        assert f"backend='{flavour}'" in parts[f"check {flavour}"]["words"]
    assert {one["role"] for one in parts["check onnx"]["found"]["findings"]} >= {"spatial", "text_to_image_gradient"}
    assert parts["check onnx"]["found"]["skipped"]["CUDA graph"].startswith("CUDA graphs take a GPU")
    (memory,) = found["results"]
    assert set(memory["modes"]) == {"text_to_image", "surrogate", "exact"}


def test_the_page_shows_every_part(page: Path) -> None:
    text = page.read_text()
    for words in (*(name for name in PARTS if name != "speed"), "Acceptance", "Memory", "it takes a GPU"):
        assert words in text or words in ("latency", "roofline")
    again = page.with_name("again.html")
    result = CliRunner().invoke(app, ["report", str(page.with_suffix(".json")), "--out", str(again)])
    assert result.exit_code == 0 and "What a process holds" in again.read_text()


def test_latency_and_roofline_on_a_cpu(tabletop_bundle: Path, job: Job) -> None:
    here = replace(job, bundle=tabletop_bundle.resolve(), device="cpu")
    few = replace(PARTS["latency"], options={"only": ("stock", "text_to_image")})
    latency = run_part(few, here, NEVER).outcome
    assert latency.status == "passed" and latency.result, latency.words
    assert set(latency.result["contenders"]) == {"stock", "text_to_image"}
    assert latency.result["parity"]["text_to_image and stock"] < 1e-3
    assert latency.result["command"].startswith("python -m benchmarks latency ")
    speed = run_part(replace(PARTS["speed"], options={"only": ("surrogate",)}), here, NEVER).outcome
    assert set(speed.found["speeds"]["surrogate"]["images_per_second"]) == {"1", "8"}, speed.words
    shares = run_part(PARTS["roofline"], here, NEVER).outcome
    assert shares.result and shares.result["device"] == "cpu", shares.words
    assert all(row["share"] > 0 for row in shares.result["measured"])


def test_an_engine_that_is_off_fails(tabletop_bundle: Path, tmp_path: Path) -> None:
    """Golden values of another engine: 1% larger."""
    folder = Path(shutil.copytree(tabletop_bundle, tmp_path / "off"))
    manifest = read_manifest(folder)
    spec = manifest.engines["grounding"]
    golden = read_golden(folder, spec)
    path = folder / "other.golden.npz"
    tokens = 1.01 * golden.outputs["object_tokens"].reshape(-1, *spec.outputs[0].shape[1:])
    write_golden(path, golden.inputs, {"object_tokens": tokens})
    changed = spec.model_copy(update={"golden": FileSpec(name=path.name, sha256=sha256_of(path))})
    write_manifest(folder, manifest.model_copy(update={"engines": {**manifest.engines, "grounding": changed}}))
    out = tmp_path / "page.html"
    result = CliRunner().invoke(
        app, ["acceptance", str(folder), "--only", "check onnx", "--out", str(out), "--minutes", MINUTES]
    )
    assert result.exit_code == 1
    assert "1 outputs are off: object_tokens of grounding" in result.stderr and out.exists()


def test_a_bundle_without_golden_values_is_named(tabletop_bundle: Path, tmp_path: Path, job: Job) -> None:
    folder = Path(shutil.copytree(tabletop_bundle, tmp_path / "old"))
    manifest = read_manifest(folder)
    old = {role: spec.model_copy(update={"golden": None}) for role, spec in manifest.engines.items()}
    write_manifest(folder, manifest.model_copy(update={"engines": old}))
    with pytest.raises(NotHere, match="has no golden values"):
        check.run(replace(job, bundle=folder), "onnx")


def test_pictures_are_compared_and_kept(tabletop_bundle: Path, tmp_path: Path) -> None:
    """On a CPU one backend with itself; then with networks whose latents are not its own."""
    found = pictures.compare(tabletop_bundle, ["onnx"], "cpu", tmp_path)
    assert found.status == "passed" and set(found.found["errors"].values()) == {0.0}
    assert {file.name for file in tmp_path.glob("*.png")} == {
        f"{mode}_{name}.png" for mode in pictures.COMPARED for name in ("cpu", "onnx")
    }


def test_pictures_that_differ_fail(tabletop_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_error", lambda found, wanted: float("nan"))
    assert pictures.compare(tabletop_bundle, ["onnx"], "cpu", tmp_path).status == "failed"


TESTS = """
import os, pytest
pytestmark = pytest.mark.gpu
def test_one(): pass
def test_two(): assert 1 == 2, "no"
@pytest.mark.skip(reason="no card")
def test_three(): pass
"""


def test_tests_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "tests"
    folder.mkdir()
    with pytest.raises(NotHere, match="no tests marked gpu"):
        gpu_tests.run_tests(folder, "gpu")
    (folder / "test_some.py").write_text(TESTS)
    found = gpu_tests.run_tests(folder, "gpu")
    assert found.status == "failed"
    assert found.words == "1 passed, 1 failed, 1 skipped; tests.test_some.test_two: AssertionError: no"
    assert found.found["tests"]["tests.test_some.test_three"] == {"ending": "skipped", "why": "no card"}
    (folder / "test_some.py").write_text(TESTS.replace("1 == 2", "True"))
    assert gpu_tests.run_tests(folder, "gpu").status == "passed"
    with pytest.raises(NotHere, match="in a clone of the repository"):
        gpu_tests.run_tests(tmp_path / "none", "gpu")


def test_ctrl_c_keeps_what_is_done(tabletop_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    names = ("gpu tests", "memory", "pictures", "check onnx")  # pictures come first, memory next
    command = [sys.executable, "-m", "benchmarks", "acceptance", str(tabletop_bundle), "--out", str(out)]
    command += ["--device", "cpu", "--minutes", MINUTES, *(word for name in names for word in ("--only", name))]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stderr
        for line in process.stderr:
            if line.startswith("pictures: skipped"):
                break
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(NEVER) == 130
    parts = {part["name"]: part for part in json.loads(out.with_suffix(".json").read_text())["parts"]}
    assert {name: part["status"] for name, part in parts.items()} == {
        "check onnx": "passed",
        "pictures": "skipped",
        "memory": "skipped",
        "gpu tests": "skipped",
    }
    assert parts["memory"]["words"] == parts["gpu tests"]["words"] == "interrupted"
    assert "interrupted" in out.read_text()


def test_it_is_no_success_if_nothing_runs(tabletop_bundle: Path, tmp_path: Path) -> None:
    options = ("--only", "gpu tests", "--device", "cpu", "--out", str(tmp_path / "page.html"))
    result = CliRunner().invoke(app, ["acceptance", str(tabletop_bundle), *options])
    assert result.exit_code == 1 and "gpu tests: skipped in" in result.stderr


def test_what_cannot_be_done_is_one_line(
    tmp_path: Path, tabletop_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (tmp_path / "link.html").symlink_to(tmp_path / "link.json")
    for arguments, words in (
        ([str(tabletop_bundle), "--device", "foo"], "device='foo' is unknown; use auto, cpu, cuda or cuda:N"),
        ([str(tabletop_bundle), "--device", "cuda"], "device='cuda': torch finds no GPU on this machine"),
        ([str(tabletop_bundle), "--out", str(tmp_path / "x.json")], "name the page, such as x.html"),
        ([str(tabletop_bundle), "--out", str(tmp_path / "link.html")], "that is where the JSON goes"),
        ([str(tmp_path)], "is not a bundle"),
        ([str(tabletop_bundle), "--only", "cooking"], "there is no such part; there are check onnx,"),
        ([str(tabletop_bundle), "--out", str(tmp_path)], "is a folder"),
    ):
        result = CliRunner().invoke(app, ["acceptance", *arguments])
        assert result.exit_code == 2 and words in result.stderr and len(result.stderr.splitlines()) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["link.html"]


@pytest.mark.parametrize(
    ("device", "row"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA GeForce RTX 4090", "4090"),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 3060", None),
    ],
)
def test_ceilings_by_the_driver_s_name(device: str, row: str | None) -> None:
    if row:
        assert ceilings_of(device) is GPUS[row]
    else:
        with pytest.raises(RealCompoError, match=f"no ceilings of {device} are known"):
            ceilings_of(device)


def test_a_part_that_takes_the_first_gpu_alone(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    for part in (gpu_tests, roofline):
        with pytest.raises(NotHere, match="set CUDA_VISIBLE_DEVICES=1 and give --device cuda"):
            part.run(replace(job, device="cuda:1"))
    assert on_first_gpu(replace(job, device="cuda:0")) and not on_first_gpu(replace(job, device="cpu"))


def test_no_gpu_no_comparison(job: Job) -> None:
    if not torch.cuda.is_available():
        with pytest.raises(NotHere, match="compared with itself"):
            pictures.run(job)
        with pytest.raises(NotHere, match="there is no GPU"):
            gpu_tests.run(job)
