"""`check` on tiny networks, whose golden values PyTorch gives, on ONNX Runtime and over `RecordingTensorRT`."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from runtime import RealCompoError
from runtime.__main__ import app
from runtime.bundle.golden import SAMPLES, TILE, read_golden, tiled, write_golden
from runtime.bundle.limits import build_limit, check_limit
from runtime.bundle.manifest import FileSpec, TensorSpec, read_manifest, sha256_of, write_manifest
from runtime.check import WAYS, Finding, Skipped, check_bundle, check_engines
from runtime.words import Kernels, Role
from tests.runtime.bundles import INTEGERS, WORDS, Part
from tests.runtime.recording import RecordingTensorRT, TapeGraph, add_plans, recording_engines, recording_library
from tests.terminal import column, on_terminal

ROWS = 3


@pytest.fixture
def golden_bundle(bundle: Path, parts: dict[Role, Part], tmp_path: Path) -> Path:
    """The tiny bundle with golden values, as its networks have them in PyTorch."""
    folder = Path(shutil.copytree(bundle, tmp_path / "golden"))
    manifest = read_manifest(folder)
    engines = {
        role: spec.model_copy(update={"golden": store(folder, role, parts[role])})
        for role, spec in manifest.engines.items()
    }
    write_manifest(folder, manifest.model_copy(update={"engines": engines}))
    return folder


def store(folder: Path, role: Role, part: Part) -> FileSpec:
    torch.manual_seed(7)
    inputs = {
        name: torch.randint(len(WORDS), (ROWS, *shape)) if name in INTEGERS else torch.rand(ROWS, *shape)
        for name, shape in part.inputs.items()
    }
    found = part.module(**inputs)
    outputs = dict(zip(part.outputs, found if isinstance(found, tuple) else (found,), strict=True))
    path = folder / f"{role}.golden.npz"
    write_golden(path, inputs, {name: output.detach().numpy() for name, output in outputs.items()})
    return FileSpec(name=path.name, sha256=sha256_of(path))


def with_threads(count: int, run: Callable[[], list[Finding | Skipped]]) -> list[Finding | Skipped]:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(count)
        return run()
    finally:
        torch.set_num_threads(before)


def split(found: list[Finding | Skipped]) -> tuple[list[Finding], dict[str, str]]:
    return [one for one in found if isinstance(one, Finding)], {
        one.what: one.why for one in found if isinstance(one, Skipped)
    }


@pytest.mark.parametrize("threads", [1, 2])
def test_a_cpu_checks_what_it_can_and_names_the_rest(golden_bundle: Path, threads: int) -> None:
    findings, skipped = split(with_threads(threads, lambda: list(check_bundle(golden_bundle, "onnx", "cpu"))))
    assert all(one.passed and one.batches == (1, 2, 3, 4, 8) for one in findings)
    one_by_one = {(one.role, one.output) for one in findings if one.way == "one by one"}
    engines = read_manifest(golden_bundle).engines
    assert one_by_one == {(role, made.name) for role, spec in engines.items() for made in spec.outputs}
    beside = {one.role for one in findings if one.way == "side by side"}
    assert beside == ({role for role, spec in engines.items() if spec.model} if threads > 1 else set())
    graphs = {"CUDA graph", "side by side in a CUDA graph"}
    assert set(skipped) == (graphs if threads > 1 else {*graphs, "side by side"})
    assert "CUDA graphs take a GPU" in skipped["CUDA graph"]


def recorded(folder: Path, largest: int | None = None) -> list[Finding | Skipped]:
    manifest = add_plans(folder, "tensorrt")
    engines = recording_engines(recording_library("tensorrt", RecordingTensorRT()), folder)
    golden = {role: read_golden(folder, spec) for role, spec in manifest.engines.items()}
    return list(check_engines(engines, manifest, golden, WAYS, largest, TapeGraph))


def test_plans_are_checked_in_cuda_graphs(golden_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = TapeGraph.replays
    findings, skipped = split(recorded(golden_bundle, largest=3))
    assert all(one.passed for one in findings)
    assert {one.way for one in findings} == {"one by one", "CUDA graph"}
    steps = [spec for spec in read_manifest(golden_bundle).engines.values() if spec.model]  # others are in no graph
    assert TapeGraph.replays - before == 2 * 3 * len(steps)
    assert set(skipped) == {"side by side", "side by side in a CUDA graph"}


def test_a_graph_that_keeps_its_first_inputs_is_found(
    golden_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that does nothing when it is replayed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(TapeGraph, "replay", lambda self: None)
    findings, _ = split(recorded(golden_bundle, largest=2))
    assert {one.way for one in findings if not one.passed} == {"CUDA graph"}


def test_an_engine_that_is_off_is_named(golden_bundle: Path) -> None:
    manifest = read_manifest(golden_bundle)
    other = manifest.engines["text_to_image"]
    changed = other.model_copy(update={"golden": store_scaled(golden_bundle, "text_to_image", 1.01)})
    write_manifest(golden_bundle, manifest.model_copy(update={"engines": {**manifest.engines, other.role: changed}}))
    result = CliRunner().invoke(app, ["check", str(golden_bundle), "--backend", "onnx", "--batch", "2"])
    assert result.exit_code == 1
    assert "off: text_to_image, one by one, a batch of" in result.stderr and "spatial," not in result.stderr


def store_scaled(folder: Path, role: Role, factor: float) -> FileSpec:
    spec = read_manifest(folder).engines[role]
    golden = read_golden(folder, spec)
    shapes = {tensor.name: tensor.shape[1:] for tensor in spec.outputs}
    outputs = {name: factor * out.reshape(ROWS, *map(int, shapes[name])) for name, out in golden.outputs.items()}
    path = folder / f"{role}-other.golden.npz"
    write_golden(path, golden.inputs, outputs)
    return FileSpec(name=path.name, sha256=sha256_of(path))


def test_a_bundle_from_before_golden_values(bundle: Path) -> None:
    with pytest.raises(
        RealCompoError, match=r"has no golden values: .*Build it with: python -m export build tiny --out"
    ):
        list(check_bundle(bundle))


def test_an_engine_without_golden_values_is_named(golden_bundle: Path) -> None:
    manifest = read_manifest(golden_bundle)
    changes = {
        "vae_decoder": {"golden": None, "verified_size": (16, 16)},
        "spatial": {"golden": None, "quantization": "int8"},
    }
    engines = {role: spec.model_copy(update=changes.get(role, {})) for role, spec in manifest.engines.items()}
    write_manifest(golden_bundle, manifest.model_copy(update={"engines": engines}))
    findings, skipped = split(list(check_bundle(golden_bundle, "onnx", "cpu", 1)))
    assert {one.role for one in findings} == set(engines) - set(changes)
    assert "verified by a twin" in skipped["vae_decoder"] and "it is in int8" in skipped["spatial"]


def test_a_damaged_file(golden_bundle: Path) -> None:
    spec = read_manifest(golden_bundle).engines["spatial"]
    assert spec.golden
    (golden_bundle / spec.golden.name).write_bytes(b"junk")
    with pytest.raises(RealCompoError, match=r"spatial.golden.npz is corrupted"):
        list(check_bundle(golden_bundle))
    with pytest.raises(RealCompoError, match=r"spatial.golden.npz holds no golden values of spatial"):
        read_golden(golden_bundle, spec)


def test_large_tensors_stay_small(golden_bundle: Path, tmp_path: Path) -> None:
    """A tile and samples come back as what was stored, and nan is an error."""
    spec = read_manifest(golden_bundle).engines["vae_decoder"]
    large = spec.model_copy(
        update={
            "inputs": (TensorSpec(name="latents", dtype="float32", shape=("batch", 4, 128, 128)),),
            "outputs": (TensorSpec(name="images", dtype="float32", shape=("batch", 3, 256, 256)),),
            "golden": FileSpec(name="large.npz", sha256=""),
        }
    )
    latents, images = tiled(torch.randn(2, 4, 128, 128)), torch.randn(2, 3, 256, 256)
    write_golden(tmp_path / "large.npz", {"latents": latents}, {"images": images.numpy()})
    golden = read_golden(tmp_path, large)
    assert torch.equal(golden.batch(3)["latents"], latents[[0, 1, 0]])
    assert golden.outputs["images"].shape == (2, SAMPLES) and (tmp_path / "large.npz").stat().st_size < 8 * (
        TILE + 2 * SAMPLES
    )
    batch = images[[0, 1, 0]]
    assert golden.errors({"images": batch}) == {"images": 0.0}
    # every 12th number is looked at
    batch[2, 0, 0, 0] += 0.5 * np.abs(golden.outputs["images"]).max().item()
    assert golden.errors({"images": batch})["images"] == pytest.approx(0.5)
    batch[2, 0, 0, 0] = float("nan")
    assert golden.errors({"images": batch})["images"] == float("inf")


def test_a_row_of_small_numbers_is_measured_by_the_largest_of_all(golden_bundle: Path) -> None:
    """As when the bundle was built: the error of a batch of that row alone is no larger than that of all rows."""
    golden = read_golden(golden_bundle, read_manifest(golden_bundle).engines["vae_decoder"])
    images = torch.tensor([1.0, 100.0, 10.0])[:, None].repeat(1, golden.outputs["images"].shape[1])
    scaled = replace(golden, outputs={"images": images.numpy()})
    assert scaled.errors({"images": images[:1] + 0.5}) == {"images": pytest.approx(0.005)}
    assert scaled.errors({"images": images + 0.5}) == {"images": pytest.approx(0.005)}


def damage_bytes(edit: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(edit(path.read_bytes())) and None


def damage_arrays(edit: Callable[[np.ndarray], np.ndarray], kind: str = "output") -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with np.load(path) as stored:
            arrays = {name: edit(stored[name]) if name.startswith(kind) else stored[name] for name in stored.files}
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)

    return damage


def save_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


DAMAGES = {
    "garbage": damage_bytes(lambda content: b"PK\x03\x04garbage"),
    "truncated": damage_bytes(lambda content: content[: len(content) // 2]),
    "empty": damage_bytes(lambda content: b""),
    "a byte flipped": damage_bytes(lambda content: content[:100] + bytes([content[100] ^ 255]) + content[101:]),
    "an array alone": save_array,
    "fewer numbers": damage_arrays(lambda array: array[:, :10]),
    "no rows": damage_arrays(lambda array: array[:0]),
    "one number": damage_arrays(lambda array: np.array(3.0, np.float32)),
    "no numbers": damage_arrays(lambda array: array * np.float32("nan")),
    "another type": damage_arrays(lambda array: array.astype(np.float64)),
    "empty inputs": damage_arrays(lambda array: array[:0], "input"),
    "inputs of another type": damage_arrays(lambda array: array.astype(np.float64), "input"),
    "more inputs": damage_arrays(lambda array: np.concatenate([array, array]), "input"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_golden_values_that_do_not_fit(golden_bundle: Path, damage: str) -> None:
    """Under a hash that fits them."""
    manifest = read_manifest(golden_bundle)
    spec = manifest.engines["vae_decoder"]
    assert spec.golden
    path = golden_bundle / spec.golden.name
    DAMAGES[damage](path)
    changed = spec.model_copy(update={"golden": FileSpec(name=path.name, sha256=sha256_of(path))})
    write_manifest(golden_bundle, manifest.model_copy(update={"engines": {**manifest.engines, spec.role: changed}}))
    result = CliRunner().invoke(app, ["check", str(golden_bundle), "--backend", "onnx"])
    (line,) = result.stderr.splitlines()
    assert result.exit_code == 2
    assert f"{path.name} holds no golden values of vae_decoder: " in line and line.endswith(". Build the bundle again")


def test_names_are_whole_on_a_narrow_terminal(golden_bundle: Path) -> None:
    shown = on_terminal([sys.executable, "-m", "runtime", "check", str(golden_bundle), "--batch", "1"])
    for name, spec in read_manifest(golden_bundle).engines.items():
        assert name in column(shown, 0) and all(made.name in column(shown, 3) for made in spec.outputs)


def test_limits(golden_bundle: Path) -> None:
    spec = read_manifest(golden_bundle).engines["spatial_gradient"]
    half = spec.model_copy(update={"precision": "fp16", "verification": {"grad_latents": 2e-3, "loss": 1e-5}})
    assert check_limit(half, "grad_latents", "cpu") == pytest.approx(1e-2)
    assert build_limit("fp16", "grad_latents") == 0.5
    assert check_limit(half, "loss", "cpu") == 8e-3


@pytest.mark.parametrize(
    ("kernels", "measured", "limit"),
    [
        ("cpu", 1e-7, 3e-6),
        ("cpu", 2e-6, 1e-5),
        ("cpu", 9e-5, 1e-4),
        ("cuda", 1e-7, 1e-5),
        ("cuda", 4e-6, 2e-5),
        ("tensorrt", 1e-7, 1e-4),
    ],
)
def test_limits_in_fp32_follow_what_was_measured(
    golden_bundle: Path, kernels: Kernels, measured: float, limit: float
) -> None:
    spec = read_manifest(golden_bundle).engines["spatial_gradient"]
    exact = spec.model_copy(update={"precision": "fp32", "verification": {"loss": measured}})
    assert check_limit(exact, "loss", kernels) == pytest.approx(limit)
    assert build_limit("fp32", "loss") == 1e-4
