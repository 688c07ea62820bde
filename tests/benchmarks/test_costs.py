"""Operations against PyTorch's own counter, and memory traffic against what a hand counts."""

from pathlib import Path

import onnx
import pytest
import torch
from onnx import helper
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.roofline.costs import Cost, cost_of
from export.checkpoints.folders import Checkpoints, load_unet
from export.engines import engines_of, load_graph, signature
from export.graphs.engine import example_inputs
from export.graphs.geometry import Geometry
from export.measure import measure
from export.spatial import find_pair
from runtime.bundle.manifest import read_manifest
from runtime.words import Role
from tests.export.opening import open_checkpoints

ROWS = 3


@pytest.fixture(scope="module")
def checkpoints() -> Checkpoints:
    pair = find_pair("tabletop")
    return open_checkpoints(pair.text_to_image, pair.spatial)


@pytest.fixture(scope="module")
def geometry(checkpoints: Checkpoints) -> Geometry:
    return measure(checkpoints)


class _Untracked:
    """In place of the counter's module tracker, whose hooks cannot stand a gradient taken inside a module."""

    parents = frozenset({"Global"})

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def counted_flops(role: Role, checkpoints: Checkpoints, geometry: Geometry) -> int:
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _Untracked()
    graph = load_graph(role, checkpoints, geometry)
    inputs = example_inputs(signature(role, geometry), ROWS, geometry.vocabulary)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:  # the counter does not know the CPU's fused attention
        graph(**inputs)
    return counter.get_total_flops()


def unread_flops(role: Role, checkpoints: Checkpoints, geometry: Geometry) -> int:
    """The last map layer's values: PyTorch computes them before a gradient graph is cut off, and nothing reads them."""
    if not role.endswith("_gradient"):
        return 0
    model = "text_to_image" if role == "text_to_image_gradient" else "spatial"
    layer = load_unet(checkpoints.of(model)).get_submodule(geometry.map_layers[model][-1])
    pixels, tokens = geometry.map_resolution[0] * geometry.map_resolution[1], geometry.max_tokens
    from_text, width = layer.to_v.in_features, layer.to_v.out_features
    return 2 * ROWS * (tokens * from_text * width + pixels * tokens * width + pixels * width * width)


@pytest.mark.parametrize("role", tuple(engines_of("gligen")))
def test_flops_are_pytorchs(tabletop_bundle: Path, checkpoints: Checkpoints, geometry: Geometry, role: Role):
    path = tabletop_bundle / read_manifest(tabletop_bundle).engines[role].graph[0].name
    expected = counted_flops(role, checkpoints, geometry) - unread_flops(role, checkpoints, geometry)
    assert cost_of(path, ROWS).flops == expected
    assert cost_of(path, 2 * ROWS).flops == 2 * expected


@pytest.mark.parametrize("role", ["text_to_image", "grounding"])
def test_every_weight_is_read_once(tabletop_bundle: Path, checkpoints: Checkpoints, geometry: Geometry, role: Role):
    path = tabletop_bundle / read_manifest(tabletop_bundle).engines[role].graph[0].name
    weights = [weight for weight in load_graph(role, checkpoints, geometry).parameters() if weight.ndim > 1]
    if role == "grounding":  # its 1-D parameters stand in for absent objects
        assert len(weights) == 3
    assert cost_of(path, 1).weights == cost_of(path, 8).weights == sum(weight.numel() for weight in weights)


def save_attention(path: Path) -> None:
    """q = x W, y = softmax(q x^T) x, z = conv(image, K): x (batch, 5, 4), W (4, 4), image (batch, 2, 8, 8), one K."""
    nodes = [
        helper.make_node("Transpose", ["w"], ["wt"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "wt"], ["q"]),
        helper.make_node("Transpose", ["x"], ["xt"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "xt"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["p"]),
        helper.make_node("MatMul", ["p", "x"], ["y"]),
        helper.make_node("Conv", ["image", "k"], ["z"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("ConvTranspose", ["z", "k"], ["back"], strides=[2, 2], pads=[1, 1, 1, 1]),
    ]
    shapes: dict[str, list[int | str]] = {
        **{name: ["batch", 5, 4] for name in ("x", "q", "y")},
        **{name: ["batch", 5, 5] for name in ("scores", "p")},
        "xt": ["batch", 4, 5],
        "wt": [4, 4],
        "image": ["batch", 2, 8, 8],
        "z": ["batch", 3, 4, 4],
        "back": ["batch", 2, 7, 7],
    }
    values = {
        name: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()
    }
    inputs, outputs = [values.pop("x"), values.pop("image")], [values.pop("y"), values.pop("back")]
    weights = [
        helper.make_tensor("w", onnx.TensorProto.FLOAT, [4, 4], [0.0] * 16),
        helper.make_tensor("k", onnx.TensorProto.FLOAT, [3, 2, 3, 3], [0.0] * 54),
    ]
    graph = helper.make_graph(nodes, "attention", inputs, outputs, weights, value_info=[*values.values()])
    onnx.save(helper.make_model(graph), path)


def test_a_small_graph_counted_by_hand(tmp_path: Path):
    save_attention(tmp_path / "graph.onnx")
    attention_flops = 2 * (5 * 4 * 4 + 5 * 5 * 4 + 5 * 4 * 5)
    conv_flops = 2 * (3 * 4 * 4) * (2 * 3 * 3) * 2  # forth and back
    attention_traffic = (20 + 20) + (20 + 20) + (20 + 20)  # x, q | q, x, no scores | x, y, no scores
    conv_traffic = (128 + 48) + (48 + 98)
    assert cost_of(tmp_path / "graph.onnx", 1) == Cost(
        flops=attention_flops + conv_flops,
        element_operations=25,
        weights=16 + 54,
        activations=attention_traffic + conv_traffic,
    )
