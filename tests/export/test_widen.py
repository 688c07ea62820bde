"""Widened graphs against PyTorch's own bf16 arithmetic, and what they say of bf16 engines."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from export.checkpoints.folders import Checkpoints
from export.engines import load_graph, signature
from export.graphs.engine import example_inputs
from export.graphs.geometry import Geometry
from export.onnx.precision import lower
from export.onnx.to_onnx import export_onnx
from export.onnx.verify import expected_outputs, relative_errors
from export.onnx.widen import runnable_on_cpu, widen_bundle
from runtime.bundle.limits import MOST
from runtime.errors import RealCompoError


@pytest.fixture
def product(tmp_path: Path) -> tuple[Path, torch.Tensor]:
    """x @ weight + x in bf16, as an ONNX graph."""
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    bits = weight.view(torch.int16).numpy().tobytes()
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["low"], to=TensorProto.BFLOAT16),
            helper.make_node("MatMul", ["low", "weight"], ["product"]),
            helper.make_node("Add", ["product", "low"], ["sum"]),
            helper.make_node("Cast", ["sum"], ["y"], to=TensorProto.FLOAT),
        ],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 64])],
        [helper.make_tensor("weight", TensorProto.BFLOAT16, [64, 64], bits, raw=True)],
    )
    path = tmp_path / "product.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10), path)
    return path, weight


def test_widened_graphs_round_as_pytorch_does_in_bf16(product: tuple[Path, torch.Tensor]) -> None:
    path, weight = product
    x = torch.randn(8, 64, generator=torch.Generator().manual_seed(1))
    with runnable_on_cpu(path) as widened:
        assert widened != path
        (found,) = onnxruntime.InferenceSession(widened).run(None, {"x": x.numpy()})
    low = x.bfloat16()
    wanted = ((low.float() @ weight.float()).bfloat16().float() + low.float()).bfloat16().float().numpy()
    assert np.mean(found == wanted) > 0.99  # another order of adding may round the other way
    np.testing.assert_allclose(found, wanted, rtol=2**-7, atol=2**-7)
    assert list(path.parent.iterdir()) == [path]  # nothing is left behind


def test_graphs_without_bf16_are_run_as_they_are(bundle: Path) -> None:
    path = next(bundle.glob("grounding-*.onnx"))
    with runnable_on_cpu(path) as same:
        assert same == path


def test_a_bf16_engine_is_as_near_to_float64_as_bf16_is(
    checkpoints: Checkpoints, geometry: Geometry, tmp_path: Path
) -> None:
    takes, graph = signature("spatial", geometry), load_graph("spatial", checkpoints, geometry)
    expected = expected_outputs(graph, takes, geometry.vocabulary)
    lower(graph, "bf16")
    export_onnx(graph, takes, example_inputs(takes, 2, geometry.vocabulary), tmp_path / "spatial.onnx", "bf16")
    errors = relative_errors(expected, tmp_path / "spatial.onnx", takes, geometry.vocabulary)
    assert all(1e-4 < error < MOST["bf16"] for error in errors.values()), errors  # and it is no fp32


def test_only_bf16_bundles_are_widened(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(RealCompoError, match="is fp32, which ONNX Runtime runs as it is"):
        widen_bundle(bundle, tmp_path / "widened")
