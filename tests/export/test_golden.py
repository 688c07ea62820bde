"""Golden values of a real build, on ONNX Runtime: graphs with changed weights or swapped inputs are found by them."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, TensorProto, numpy_helper

from runtime.backends import load_engines
from runtime.bundle.golden import read_golden, write_golden
from runtime.bundle.manifest import (
    EngineSpec,
    FileSpec,
    Manifest,
    bundle_files,
    read_manifest,
    sha256_of,
    write_manifest,
)
from runtime.check import WAYS, Finding, check_engines
from runtime.denoising.capture import TorchGraph
from runtime.words import Role

PRECISE = 1000  # bytes of a weight that is changed
ROWS = 3  # of the largest batch
BLOCK = "transformer_blocks_0"


def check(bundle: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runtime", "check", str(bundle), "--batch", str(ROWS), *options]
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


@dataclass(frozen=True)
class Weight:
    """Where a weight of a graph is stored: others may have it too, under other names."""

    file: str
    offset: int
    length: int  # bytes


def weights_of(folder: Path, spec: EngineSpec) -> dict[str, Weight]:
    """Those in fp32, but for the smallest."""
    found = {}
    for tensor in onnx.load(folder / spec.graph[0].name, load_external_data=False).graph.initializer:
        place = {entry.key: entry.value for entry in tensor.external_data}
        if place and tensor.data_type == TensorProto.FLOAT and int(place["length"]) > PRECISE:
            found[tensor.name] = Weight(place["location"], int(place.get("offset", 0)), int(place["length"]))
    return found


@contextmanager
def one_percent_off(folder: Path, weight: Weight) -> Iterator[None]:
    """Each of its numbers by one percent, up or down, wherever it is used."""
    values = np.memmap(folder / weight.file, np.float32, "r+", weight.offset, (weight.length // 4,))
    before = values.copy()
    values *= 1 + 0.01 * np.random.default_rng(0).choice([-1, 1], values.shape).astype(np.float32)
    values.flush()
    yield
    values[:] = before
    values.flush()


def outputs_off(folder: Path, manifest: Manifest, file: str) -> list[str]:
    """That `check` finds, of the engines whose graphs have a file."""
    roles = [role for role, spec in manifest.engines.items() if file in [one.name for one in spec.graph]]
    golden = {role: read_golden(folder, manifest.engines[role]) for role in roles}
    engines = load_engines(folder, manifest, "onnx", "cpu", second_stream=False)
    found = check_engines(engines, manifest, golden, WAYS[:1], ROWS, TorchGraph)
    return [f"{one.role} {one.output}" for one in found if isinstance(one, Finding) and not one.passed]


@pytest.mark.parametrize(
    ("role", "name"),
    [
        ("grounding", "whole.position_net.linears.2.bias"),
        ("text_to_image_gradient", "model_unet_up_blocks_0_resnets_1_conv2_weight"),
        ("spatial_gradient", f"model_unet_up_blocks_1_attentions_0_{BLOCK}_fuser_fuser_ff_net_0_proj_bias"),
    ],
)
def test_one_weight_that_is_one_percent_off(copy: Path, role: Role, name: str) -> None:
    """Outputs are off by 1e-5 to 1e-4: more than rounding explains, and less than an engine may be built with."""
    manifest = read_manifest(copy)
    weight = weights_of(copy, manifest.engines[role])[name]
    assert not outputs_off(copy, manifest, weight.file)
    with one_percent_off(copy, weight):
        assert outputs_off(copy, manifest, weight.file)


@pytest.mark.slow
def test_how_many_weights_that_are_one_percent_off_are_found(copy: Path) -> None:
    """Each by itself. What is left moves no output by more than rounding does, or hardly."""
    manifest = read_manifest(copy)
    weights = {weight for spec in manifest.engines.values() for weight in weights_of(copy, spec).values()}
    chosen = sorted(weights, key=lambda weight: (weight.file, weight.offset))[::4]
    found = 0
    for weight in chosen:
        with one_percent_off(copy, weight):
            found += bool(outputs_off(copy, manifest, weight.file))
    print(f"{found} of {len(chosen)} are found")
    assert found >= 0.8 * len(chosen)


def test_an_output_may_be_zero(copy: Path) -> None:
    """An untrained ControlNet's residuals are; a number in the place of a zero is off by any measure."""
    spec = read_manifest(copy).engines["grounding"]
    assert spec.golden
    golden = read_golden(copy, spec)
    zeros = {tensor.name: np.zeros((golden.rows, *map(int, tensor.shape[1:]))) for tensor in spec.outputs}
    write_golden(copy / spec.golden.name, golden.inputs, zeros)
    found = {name: torch.from_numpy(values) for name, values in zeros.items()}
    again = read_golden(copy, spec)
    assert set(again.errors(found).values()) == {0.0}
    assert set(again.errors({name: values + 1e-9 for name, values in found.items()}).values()) == {float("inf")}


def test_it_takes_no_exporter(tabletop_bundle: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from runtime.check import check_bundle; "
        f"print(len(list(check_bundle(Path({str(tabletop_bundle)!r}), largest=1)))); "
        "print([name for name in ('diffusers', 'transformers', 'onnx', 'export') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
