"""8-bit bundles: which layers are quantized, what stays as it was, and how far the result is from fp32."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn
from typer.testing import CliRunner

from export.__main__ import app
from export.checkpoints.folders import load_unet
from export.graphs.engine import Signature
from export.onnx.quantize import TOLERANCE, quantizable, quantize_bundle, record
from export.onnx.verify import verify_bundle
from export.plans.plan_options import plan_options
from export.plans.to_engine import build_plan
from export.spatial import find_pair
from runtime import Layout, RealCompo
from runtime.bundle.manifest import read_manifest, sha256_of, write_manifest
from runtime.errors import RealCompoError
from tests.export.opening import open_checkpoints

LAYOUT = Path(__file__).parents[2] / "examples" / "red_ball_blue_cube.json"
MODELS = ("text_to_image", "spatial")


def graph_of(bundle: Path, role: str) -> Path:
    return bundle / read_manifest(bundle).engines[role].graph[0].name


@pytest.mark.parametrize("model", MODELS)
def test_every_layer_but_the_outer_ones_and_the_maps(tabletop_bundle: Path, model: str):
    """Found by their weights' values in the checkpoint, whose names the graph does not keep."""
    pair = find_pair("tabletop")
    unet = load_unet(open_checkpoints(pair.text_to_image, pair.spatial).of(model))
    maps = read_manifest(tabletop_bundle).maps.layers[model]
    layers = {name: module for name, module in unet.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)}
    wanted = {
        name
        for name in layers
        if not name.startswith(("conv_in", "conv_out", "time_emb", "position_net"))
        and not name.endswith("time_emb_proj")
        and name not in {f"{layer}.{part}" for layer in maps for part in ("to_q", "to_k")}
    }
    graph = onnx.load(graph_of(tabletop_bundle, model))
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    nodes = {node.name: node for node in graph.graph.node}
    found = {name_of(stored(graph, nodes[name], weights), layers) for name in quantizable(graph)}
    assert found == wanted
    assert len(quantizable(graph)) == len(wanted)


def stored(graph: onnx.ModelProto, node: onnx.NodeProto, weights: dict[str, np.ndarray]) -> np.ndarray:
    if node.input[1] in weights:
        return weights[node.input[1]]
    (transpose,) = [other for other in graph.graph.node if node.input[1] in other.output]
    return weights[transpose.input[0]]


def name_of(weight: np.ndarray, layers: dict[str, nn.Module]) -> str:
    for name, layer in layers.items():
        value = layer.weight.numpy()
        if any(value.shape == seen.shape and np.array_equal(value, seen) for seen in (weight, weight.T)):
            return name
    raise AssertionError(f"a weight of shape {weight.shape} is in no layer")


def test_command_without_model_optimizer(tabletop_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    arguments = ["quantize", tabletop_bundle, "--out", tmp_path / "out", "--mode", "int8", "--layout", LAYOUT]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 2
    assert result.stderr == "error: quantize needs NVIDIA Model Optimizer: pip install 'realcompo[quantize]'\n"
    assert not (tmp_path / "out").exists()


def test_bundles_that_cannot_be_quantized(tabletop_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)  # installed, for all that is asked here
    with pytest.raises(RealCompoError, match="is the bundle itself: choose another folder"):
        quantize_bundle(tabletop_bundle, tabletop_bundle, "int8", [LAYOUT])
    manifest = read_manifest(tabletop_bundle)
    spatial = manifest.engines["spatial"].model_copy(update={"quantization": "fp8"})
    for changes in ({"precision": "fp16"}, {"engines": {**manifest.engines, "spatial": spatial}}):
        write_manifest(tmp_path, manifest.model_copy(update=changes))
        with pytest.raises(RealCompoError, match="is not a plain fp32 bundle: build one with python -m export build"):
            quantize_bundle(tmp_path, tmp_path / "out", "int8", [LAYOUT])


def test_recorded_outputs_are_those_of_the_recorded_inputs(tabletop_bundle: Path):
    seen = record(tabletop_bundle, read_manifest(tabletop_bundle), [LAYOUT, LAYOUT], steps=2, seed=3)
    for model in MODELS:
        assert len(seen[model].inputs["latents"]) == 2 * 2 * 2  # layouts, steps, guided rows
        session = onnxruntime.InferenceSession(graph_of(tabletop_bundle, model), providers=["CPUExecutionProvider"])
        again = session.run(list(seen[model].outputs), seen[model].inputs)
        for output, expected in zip(again, seen[model].outputs.values(), strict=True):
            np.testing.assert_allclose(output, expected, atol=1e-4)


def test_layout_without_a_prompt(tabletop_bundle: Path, tmp_path: Path):
    path = tmp_path / "layout.json"
    path.write_text('{"regions": [{"phrase": "a ball", "box": [0, 0, 1, 1]}]}')
    with pytest.raises(RealCompoError, match=r"layout.json has no prompt"):
        record(tabletop_bundle, read_manifest(tabletop_bundle), [path], steps=1, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["int8", "fp8"])
def test_quantized_bundle_draws_nearly_the_same(tabletop_bundle: Path, tmp_path: Path, mode: str):
    pytest.importorskip("modelopt", reason="needs NVIDIA Model Optimizer: pip install 'realcompo[quantize]'")
    before = {path.name: sha256_of(path) for path in tabletop_bundle.iterdir() if path.is_file()}
    manifest = quantize_bundle(tabletop_bundle, tmp_path / mode, mode, [LAYOUT])
    assert before == {path.name: sha256_of(path) for path in tabletop_bundle.iterdir() if path.is_file()}
    old = read_manifest(tabletop_bundle)
    assert {role for role in old.engines if manifest.engines[role] != old.engines[role]} == set(MODELS)
    assert all(check.errors is None for check in verify_bundle(tmp_path / mode) if check.role in MODELS)
    for model in MODELS:
        assert_products_are_quantized(tmp_path / mode, tabletop_bundle, model)
        assert 0 < max(manifest.engines[model].verification.values()) < TOLERANCE
    assert mean_difference(tabletop_bundle, tmp_path / mode) < 0.02


def assert_products_are_quantized(quantized: Path, plain: Path, model: str) -> None:
    """Some products have both inputs rounded, and none that the plain graph's list leaves out."""
    graph = onnx.load(graph_of(quantized, model)).graph
    rounded = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    products = [node for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    found = {node.name for node in products if rounded.issuperset(node.input[:2])}
    assert len(found) > 50
    assert found <= set(quantizable(onnx.load(graph_of(plain, model))))
    assert not rounded & {name for node in products if node.name not in found for name in node.input}


def mean_difference(*bundles: Path) -> float:
    """Between two bundles' latents of the same picture, on a scale of one."""
    layout = Layout.from_file(LAYOUT)
    first, second = (
        RealCompo.load(bundle)(
            layout.prompt, layout=layout, steps=10, sampler="dpm++2m", gradient="none", seed=7
        ).latents
        for bundle in bundles
    )
    return float(torch.nn.functional.mse_loss(first, second) / first.square().mean())


@pytest.mark.slow
@pytest.mark.tensorrt_rtx
def test_plans_are_built_of_the_quantized_graphs(tabletop_bundle: Path, tmp_path: Path):
    pytest.importorskip("modelopt", reason="needs NVIDIA Model Optimizer: pip install 'realcompo[quantize]'")
    source = Path(shutil.copytree(tabletop_bundle, tmp_path / "source"))
    manifest = read_manifest(source)
    engine = manifest.engines["text_to_image"]
    options = plan_options("tensorrt-rtx", ("8.9",), (1, 2, 4))
    files = [source / file.name for file in engine.graph]
    plan = build_plan(
        files, Signature(engine.inputs, engine.outputs), options, (1, 2, 4), source / "text_to_image-plain.engine"
    )
    planned = engine.model_copy(update={"plan": plan})
    write_manifest(source, manifest.model_copy(update={"engines": {**manifest.engines, "text_to_image": planned}}))
    made = quantize_bundle(source, tmp_path / "out", "int8", [LAYOUT]).engines["text_to_image"].plan
    assert made is not None
    assert made.profile == plan.profile
    assert (tmp_path / "out" / made.file.name).stat().st_size > 1_000_000
