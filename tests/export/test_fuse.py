"""Fused attention for ONNX Runtime: every layer of diffusers' without maps, the same values, the same weights."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from export.checkpoints.folders import ROOT
from export.graphs.attention import ExplicitAttention
from export.graphs.engine import Signature, tensor
from export.onnx.fuse import DOMAIN, fuse_attention
from export.onnx.to_onnx import export_onnx
from export.onnx.verify import verify_bundle
from runtime.bundle.manifest import FileSpec, read_manifest, sha256_of, write_manifest
from runtime.errors import RealCompoError
from runtime.words import MODELS, Model

PIXELS, WIDTH = 12, 24


class Layer(nn.Module):
    """One attention layer of diffusers', of pixels to themselves or to tokens."""

    def __init__(self, heads: int, tokens: int | None, explicit: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        width = WIDTH // heads
        self.attention = Attention(WIDTH, WIDTH if tokens else None, heads, dim_head=width)
        self.tokens = tokens
        if explicit:
            self.attention.set_processor(ExplicitAttention())

    def forward(self, pixels: Tensor) -> Tensor:
        given = pixels[:, : self.tokens] * 2 if self.tokens else None
        mixed: Tensor = self.attention(pixels, encoder_hidden_states=given)
        return mixed


def export(layer: Layer, path: Path) -> Path:
    takes = Signature((tensor("pixels", PIXELS, WIDTH),), (tensor("mixed", PIXELS, WIDTH),))
    (graph,) = export_onnx(layer.eval(), takes, {"pixels": torch.randn(2, PIXELS, WIDTH)}, path)
    return graph


def run(path: Path, **inputs: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run(None, inputs)
    return found


@pytest.mark.parametrize("heads", [1, 2, 3])
@pytest.mark.parametrize("tokens", [None, 5])
def test_a_layer_is_one_operator_and_computes_what_pytorch_does(tmp_path: Path, heads: int, tokens: int | None) -> None:
    layer = Layer(heads, tokens, explicit=False)
    graph = export(layer, tmp_path / "layer.onnx")
    assert fuse_attention(graph, tmp_path / "fused.onnx") == 1
    kinds = [node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node]
    assert kinds.count("MultiHeadAttention") == 1 and not {"Softmax", "Transpose"} & set(kinds)
    pixels = torch.randn(3, PIXELS, WIDTH)
    (found,) = run(tmp_path / "fused.onnx", pixels=pixels.numpy())
    np.testing.assert_allclose(found, layer(pixels).detach().numpy(), atol=1e-5)


def test_attention_in_the_open_stays(tmp_path: Path) -> None:
    graph = export(Layer(2, None, explicit=True), tmp_path / "layer.onnx")
    assert fuse_attention(graph, tmp_path / "fused.onnx") == 0 and not (tmp_path / "fused.onnx").exists()


def test_a_softmax_that_is_asked_for_stays(tmp_path: Path) -> None:
    graph = export(Layer(2, None, explicit=False), tmp_path / "layer.onnx")
    model = onnx.load(graph)
    (softmax,) = (node for node in model.graph.node if node.op_type == "Softmax")
    shown = onnx.helper.make_tensor_value_info(softmax.output[0], onnx.TensorProto.FLOAT, None)
    model.graph.output.append(shown)
    onnx.save(model, graph)
    assert fuse_attention(graph, tmp_path / "fused.onnx") == 0


@pytest.mark.parametrize("model", MODELS)
def test_every_layer_of_the_demo_pair_without_maps(tabletop_bundle: Path, model: Model) -> None:
    manifest = read_manifest(tabletop_bundle)
    unet = UNet2DConditionModel.from_pretrained(ROOT / "engines" / "tabletop" / model / "unet")
    layers = {name for name, module in unet.named_modules() if isinstance(module, Attention)}
    spec = manifest.engines[model]
    assert spec.fused and spec.for_onnx_runtime == spec.fused
    fused = onnx.load(tabletop_bundle / spec.fused.name, load_external_data=False)
    assert sum(node.domain == DOMAIN for node in fused.graph.node) == len(layers - set(manifest.maps.layers[model]))


@pytest.mark.parametrize("model", MODELS)
def test_both_graphs_compute_the_same_from_the_same_files(tabletop_bundle: Path, model: Model) -> None:
    spec = read_manifest(tabletop_bundle).engines[model]
    assert spec.fused
    generator = np.random.default_rng(0)
    inputs = {
        one.name: generator.standard_normal((3, *map(int, one.shape[1:]))).astype(np.float32) for one in spec.inputs
    }
    paths = [tabletop_bundle / file.name for file in (spec.graph[0], spec.fused)]
    for plain, fused in zip(*(run(path, **inputs) for path in paths), strict=True):
        np.testing.assert_allclose(fused, plain, atol=1e-5 * np.abs(plain).max())
    files = [
        {location(weight) for weight in onnx.load(path, load_external_data=False).graph.initializer} for path in paths
    ]
    assert files[1] <= files[0] and paths[1].stat().st_size < paths[0].stat().st_size


def test_verify_finds_a_fused_graph_that_is_off(tabletop_bundle: Path, tmp_path: Path) -> None:
    folder, manifest = Path(shutil.copytree(tabletop_bundle, tmp_path / "off")), read_manifest(tabletop_bundle)
    spec = manifest.engines["text_to_image"]
    assert spec.fused
    model = onnx.load(folder / spec.fused.name, load_external_data=False)
    layer = next(node for node in model.graph.node if node.domain == DOMAIN)
    (scale,) = (attribute for attribute in layer.attribute if attribute.name == "scale")
    scale.f *= 2
    (folder / "off.onnx").write_bytes(model.SerializeToString())
    fused = FileSpec(name="off.onnx", sha256=sha256_of(folder / "off.onnx"))
    changed = {**manifest.engines, "text_to_image": spec.model_copy(update={"fused": fused})}
    write_manifest(folder, manifest.model_copy(update={"engines": changed}))
    with pytest.raises(RealCompoError, match="text_to_image: noise_pred differs from PyTorch by"):
        list(verify_bundle(folder))


def location(weight: onnx.TensorProto) -> str:
    return next((entry.value for entry in weight.external_data if entry.key == "location"), "")


def test_fp16_has_it_too(tabletop_half_bundle: Path) -> None:
    """Computed in fp32 on a CPU, by ONNX Runtime's own casts."""
    assert all(read_manifest(tabletop_half_bundle).engines[model].fused for model in MODELS)
