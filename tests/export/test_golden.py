"""Golden values of a real build, on ONNX Runtime: graphs with changed weights or swapped inputs are found by them."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

from runtime.bundle.golden import read_golden
from runtime.bundle.manifest import FileSpec, bundle_files, read_manifest, sha256_of, write_manifest
from runtime.words import Role

PRECISE = 1000  # bytes of a weight that is changed


def check(bundle: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runtime", "check", str(bundle), "--batch", "3", *options]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def copy(tabletop_bundle: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in bundle_files(read_manifest(tabletop_bundle)):
        shutil.copyfile(tabletop_bundle / file.name, folder / file.name)
    shutil.copyfile(tabletop_bundle / "manifest.json", folder / "manifest.json")
    return folder


def change(folder: Path, role: Role, edit: Callable[[ModelProto], None], weights: bool = False) -> None:
    """Write another graph, under a hash that fits it."""
    manifest = read_manifest(folder)
    spec = manifest.engines[role]
    model = onnx.load(folder / spec.graph[0].name, load_external_data=weights)
    edit(model)
    path = folder / f"{role}-0123456789ab.onnx"
    path.write_bytes(model.SerializeToString())
    others = () if weights else spec.graph[1:]
    changed = spec.model_copy(
        update={"fused": None, "graph": (FileSpec(name=path.name, sha256=sha256_of(path)), *others)}
    )
    write_manifest(folder, manifest.model_copy(update={"engines": {**manifest.engines, role: changed}}))


def perturb(model: ModelProto) -> None:
    """Every weight by one percent, up or down."""
    generator = np.random.default_rng(0)
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype == np.float32 and values.nbytes > PRECISE:
            factors = 1 + 0.01 * generator.choice([-1, 1], values.shape)
            weight.CopyFrom(numpy_helper.from_array((values * factors).astype(np.float32), weight.name))


def swap(first: str, second: str) -> Callable[[ModelProto], None]:
    other = {first: second, second: first}

    def edit(model: ModelProto) -> None:
        for node in model.graph.node:
            node.input[:] = [other.get(name, name) for name in node.input]

    return edit


def test_a_build_is_in_order(tabletop_bundle: Path) -> None:
    manifest = read_manifest(tabletop_bundle)
    for spec in manifest.engines.values():
        assert spec.golden and read_golden(tabletop_bundle, spec).rows == 3
    sizes = [(tabletop_bundle / spec.golden.name).stat().st_size for spec in manifest.engines.values() if spec.golden]
    assert sum(sizes) < 3e6
    result = check(tabletop_bundle)
    assert result.returncode == 0, result.stderr
    assert "skipped: CUDA graph" in result.stdout


@pytest.mark.parametrize("role", ["text_encoder", "spatial", "spatial_gradient", "grounding", "vae_decoder"])
def test_weights_that_are_one_percent_off(copy: Path, role: Role) -> None:
    change(copy, role, perturb, weights=True)
    result = check(copy)
    assert result.returncode == 1
    assert {line.split(",")[0] for line in result.stderr.splitlines()} == {f"off: {role}"}


@pytest.mark.parametrize("role", ["spatial", "spatial_gradient"])
def test_two_inputs_that_are_swapped(copy: Path, role: Role) -> None:
    change(copy, role, swap("timestep", "grounding_scale"))
    result = check(copy)
    assert result.returncode == 1
    assert {line.split(",")[0] for line in result.stderr.splitlines()} == {f"off: {role}"}


def test_it_takes_no_exporter(tabletop_bundle: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from runtime.check import check_bundle; "
        f"print(len(list(check_bundle(Path({str(tabletop_bundle)!r}), largest=1)))); "
        "print([name for name in ('diffusers', 'transformers', 'onnx', 'export') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
