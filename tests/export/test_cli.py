"""`python -m export`: what it prints, and its exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import export.build
from export.__main__ import app
from export.pairs import PAIRS, Pair
from runtime.bundle.manifest import read_manifest, sha256_of
from tests.terminal import column, on_terminal


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(argument) for argument in arguments])


def build_arguments(pair: Pair, out: Path) -> list[object]:
    return ["build", "tabletop", "--text-to-image", pair.text_to_image, "--spatial", pair.spatial, "--out", out]


def assert_one_line_error(result: Result, message: str) -> None:
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_build_inspect_verify(own_bundle: Path, pair: Pair) -> None:
    built = run(*build_arguments(pair, own_bundle))
    assert built.exit_code == 0, built.output
    assert "spatial: unchanged, kept" in built.output
    assert f"{own_bundle}/manifest.json is ready" in built.output
    inspected = run("inspect", own_bundle)
    assert inspected.exit_code == 0
    for word in ("Pair tabletop", "grounding_scale float32 (batch)", "8x8 from", "up_blocks.1.attentions.1"):
        assert word in inspected.output
    verified = run("verify", own_bundle)
    assert verified.exit_code == 0, verified.output
    assert verified.output.count("attention_maps") == 2
    table = run("inspect", own_bundle, "--layers").output.split("What computes in which type")[1]
    assert "MatMul" in table and "ConvTranspose" in table


def test_inspect_tells_the_controlnets(controlled_bundle: Path, controlled_pair: Pair) -> None:
    inspected = run("inspect", controlled_bundle)
    assert inspected.exit_code == 0
    for control in controlled_pair.controls:
        assert f"ControlNet, {control.kind}" in inspected.output
    assert "one engine for both models" in inspected.output
    assert "down_residual_03 float32 (batch, 16, 4, 4)" in inspected.output


def test_verify_without_checkpoints(own_bundle: Path, own_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    path = own_bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["pair"]["spatial"]["source"] = "/no/longer/there"
    path.write_text(json.dumps(manifest))
    verified = run("verify", own_bundle)
    assert verified.exit_code == 0
    assert "spatial: outputs are finite; its checkpoint is not at hand" in verified.output


def test_list(own_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = own_bundle.parent
    (root / "engines").mkdir()
    own_bundle.rename(root / "engines" / "mine")
    monkeypatch.chdir(root)
    listed = run("list")
    assert listed.exit_code == 0
    assert "sd15-gligen" in listed.output
    assert "engines/mine" in listed.output


def test_names_are_whole_on_a_narrow_terminal(own_bundle: Path) -> None:
    """Pairs, which are typed from it, and layers."""
    listed = on_terminal([sys.executable, "-m", "export", "list"])
    assert all(pair in column(listed, 0) for pair in PAIRS)
    inspected = on_terminal([sys.executable, "-m", "export", "inspect", str(own_bundle)])
    (layer, *_) = read_manifest(own_bundle).maps.layers["spatial"]
    assert layer in column(inspected, 1)


@pytest.mark.parametrize("damage", ["onnx", "json", "missing", "outside"])
def test_verify_finds_damage(own_bundle: Path, damage: str) -> None:
    manifest = own_bundle / "manifest.json"
    graph = next(own_bundle.glob("grounding-*.onnx"))
    match damage:
        case "onnx":
            graph.write_bytes(graph.read_bytes()[:-100])
            assert_one_line_error(run("verify", own_bundle), f"{graph} is corrupted")
        case "json":
            manifest.write_text(manifest.read_text()[:-50])
            assert_one_line_error(run("verify", own_bundle), f"{manifest} is damaged")
        case "missing":
            manifest.unlink()
            assert_one_line_error(run("verify", own_bundle), "is not a bundle")
        case "outside":
            manifest.write_text(manifest.read_text().replace(graph.name, "../elsewhere.onnx"))
            assert_one_line_error(run("inspect", own_bundle), "leaves the bundle folder")


def test_verify_measures_the_weights_in_the_graph(own_bundle: Path, pair: Pair) -> None:
    """A graph with a wrong weight and a right hash, as a wrong build would leave."""
    import onnx

    graph = next(own_bundle.glob("grounding-*.onnx"))
    old, model = sha256_of(graph), onnx.load(graph)
    weight = next(tensor for tensor in model.graph.initializer if len(tensor.raw_data) == 4 * 512)
    weight.raw_data = b"\x00\x00\x80\x3f" * 512
    onnx.save(model, graph)
    manifest = own_bundle / "manifest.json"
    manifest.write_text(manifest.read_text().replace(old, sha256_of(graph)))
    assert_one_line_error(run("verify", own_bundle), "grounding: object_tokens differs from PyTorch by")


def test_bad_arguments(tmp_path: Path, pair: Pair) -> None:
    assert_one_line_error(run("build", "nope", "--out", tmp_path), "unknown pair 'nope'; known pairs: tabletop")
    arguments = build_arguments(pair, tmp_path / "out")
    assert_one_line_error(run(*arguments, "--batch", "1:2"), "--batch 1:2 is not of the form MIN:OPT:MAX")
    assert_one_line_error(run(*arguments, "--batch", "0"), "--batch 0:0:0 is not of the form MIN:OPT:MAX")
    assert_one_line_error(
        run(*arguments, "--optimization-level", 5), "--optimization-level is for plans; choose --backend"
    )
    assert_one_line_error(run(*arguments, "--strip-weights"), "--strip-weights is for plans; choose --backend")
    assert_one_line_error(run(*arguments, "--height", 17), "--height 17 does not fit this pair")
    assert run(*arguments, "--backend", "cuda").exit_code == 2


def test_ctrl_c(tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(export.build, "load_graph", interrupted)
    result = run(*build_arguments(pair, tmp_path / "out"))
    assert result.exit_code == 130
    assert result.stderr == "stopped; the same command resumes\n"
    assert not list((tmp_path / "out").iterdir())


def test_help_shows_every_command() -> None:
    shown = subprocess.run([sys.executable, "-m", "export", "--help"], capture_output=True, text=True, check=True)
    assert all(command in shown.stdout for command in ("build", "list", "inspect", "verify"))
    build_help = run("build", "--help").output
    assert all(word in build_help for word in ("--compute-capability", "1:2:8", "Examples", "REPO[@REVISION][:PATH]"))
