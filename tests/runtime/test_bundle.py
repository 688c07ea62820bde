"""Loading: what a good bundle gives, and the line that each kind of damage gets."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
import torch

from runtime import RealCompo, RealCompoError
from runtime.bundle.manifest import sha256_of, write_atomically


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "copy"))


def edit_manifest(folder: Path, change: Callable[[Any], object]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def assert_refused(folder: Path, message: str, **options: Any) -> None:
    with pytest.raises(RealCompoError, match=message) as refused:
        RealCompo.load(folder, modes=("exact",), **options)  # which opens every engine
    assert "\n" not in str(refused.value)


def test_missing_bundle(tmp_path: Path) -> None:
    assert_refused(tmp_path / "none", "is not a bundle: it has no manifest.json. Build it with: python -m export build")


def test_manifest_that_is_not_json(copy: Path) -> None:
    (copy / "manifest.json").write_bytes(b"\xff{")
    assert_refused(copy, "manifest.json is damaged: the file: Invalid JSON")


def test_manifest_without_a_field(copy: Path) -> None:
    edit_manifest(copy, lambda manifest: manifest.pop("latent_scale"))
    assert_refused(copy, "damaged: latent_scale: Field required")


def set_to(value: object, *place: str | int) -> Callable[[Any], object]:
    *outer, last = place

    def change(manifest: Any) -> None:
        reduce(getitem, outer, manifest)[last] = value

    return change


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("max_tokens",), 0, "max_tokens: Input should be greater than 0"),
        (("max_regions",), -1, "max_regions: Input should be greater than 0"),
        (("latent_scale",), 0, "latent_scale: Input should be greater than 0"),
        (("latent_shape", 0), -4, "latent_shape.0: Input should be greater than 0"),
        (("maps", "resolution", 0), 0, "maps.resolution.0: Input should be greater than 0"),
        (("engines", "spatial", "outputs", 0, "shape", 1), -4, "engines.spatial.outputs.0.shape.1"),
        (("engines", "spatial", "graph"), [], "engines.spatial.graph: .* at least 1 item"),
    ],
)
def test_sizes_that_cannot_be(copy: Path, place: tuple[str | int, ...], value: object, message: str) -> None:
    edit_manifest(copy, set_to(value, *place))
    assert_refused(copy, f"manifest.json is damaged: {message}")


def test_newer_format_is_told_by_its_version(copy: Path) -> None:
    edit_manifest(copy, lambda manifest: manifest.update(format_version=3, novelty=True))
    assert_refused(copy, "has format version 3; this runtime reads 2")


@pytest.mark.parametrize("name", ["../spatial.onnx", "/etc/passwd", "folder/spatial.onnx", "..", "", "a\\b"])
def test_path_that_leaves_the_folder(copy: Path, name: str) -> None:
    edit_manifest(copy, lambda manifest: manifest["engines"]["spatial"]["graph"][0].update(name=name))
    assert_refused(copy, "engines.spatial.graph.0.name: .*leaves the bundle folder")


def test_link_that_leaves_the_folder(copy: Path, tmp_path: Path) -> None:
    (copy / "spatial.onnx").rename(tmp_path / "elsewhere.onnx")
    (copy / "spatial.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    assert_refused(copy, "spatial.onnx is a link that leaves the bundle folder")


def test_missing_file(copy: Path) -> None:
    (copy / "grounding.onnx").unlink()
    assert_refused(copy, "grounding.onnx is missing. Build it with: python -m export build tiny")
    assert_refused(copy, "grounding.onnx does not load", verify=False)


def test_missing_file_of_a_styled_bundle(copy: Path) -> None:
    """What builds it again names its LoRAs."""
    command = ["build", "tiny", "--lora", "style.safetensors:0.8"]
    edit_manifest(copy, lambda manifest: manifest.update(command=command))
    (copy / "tokenizer.json").unlink()
    assert_refused(copy, r"python -m export build \S+ --out \S+ --lora style.safetensors:0\.8$")


def test_changed_file(copy: Path) -> None:
    with (copy / "spatial.onnx").open("ab") as file:
        file.write(b"x")
    assert_refused(copy, "spatial.onnx is corrupted: its sha256 is")


def test_damaged_graph_whose_hash_fits(copy: Path) -> None:
    path = copy / "spatial.onnx"
    path.write_bytes(path.read_bytes()[:100])
    edit_manifest(copy, lambda manifest: manifest["engines"]["spatial"]["graph"][0].update(sha256=sha256_of(path)))
    assert_refused(copy, "spatial.onnx does not load: .*Build it with")


def test_graph_with_other_tensors_than_the_manifest_says(copy: Path) -> None:
    edit_manifest(copy, lambda manifest: manifest["engines"]["spatial"]["outputs"][1].update(name="maps"))
    assert_refused(
        copy, "spatial.onnx has the outputs noise_pred, attention_maps, but the manifest says noise_pred, maps"
    )


def test_missing_engine(copy: Path) -> None:
    edit_manifest(copy, lambda manifest: manifest["engines"].pop("grounding"))
    assert_refused(copy, "has no grounding engine")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"backend": "magic"},
            "backend='magic' is unknown; use one of auto, onnx, onnx-tensorrt, tensorrt-rtx, tensorrt",
        ),
        ({"device": "tpu"}, "device='tpu' is unknown"),
        ({"device": "cuda:x"}, "device='cuda:x' is unknown"),
    ],
)
def test_backends_and_devices(bundle: Path, options: dict[str, str], message: str) -> None:
    assert_refused(bundle, message, **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_cuda_without_a_gpu(bundle: Path) -> None:
    assert_refused(bundle, "device='cuda': it takes a GPU", device="cuda")


def test_atomic_write_leaves_nothing_half_done(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_atomically(target, b"old")
    with pytest.raises(TypeError):
        write_atomically(target, "not bytes")  # type: ignore[arg-type]
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_import_is_light() -> None:
    heavy = "diffusers transformers onnx onnxscript onnxruntime openai polygraphy matplotlib rich typer tensorrt "
    heavy += "tensorrt_rtx fastapi starlette uvicorn prometheus_client ray"
    check = f"import sys, runtime; print([name for name in {heavy.split()} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
