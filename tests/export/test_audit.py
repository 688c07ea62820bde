"""The precision audit on small graphs written by hand, where it is known what computes in what, and on real ones."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from export.engines import engines_of
from export.onnx.audit import audit, check_precision
from runtime.bundle.manifest import read_manifest
from runtime.errors import RealCompoError
from runtime.words import Role

HALF, FULL = TensorProto.FLOAT16, TensorProto.FLOAT


def save(path: Path, nodes: list[onnx.NodeProto], inputs: list[str], outputs: list[str]) -> Path:
    """A graph over (2, 2) tensors in fp32, with a half-precision weight `w`."""
    tensors = {name: helper.make_tensor_value_info(name, FULL, [2, 2]) for name in (*inputs, *outputs)}
    weight = helper.make_tensor("w", HALF, [2, 2], [1.0, 2.0, 3.0, 4.0])
    graph = helper.make_graph(nodes, "g", [tensors[i] for i in inputs], [tensors[o] for o in outputs], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), path)
    return path


def node(operator: str, inputs: str, output: str, **attributes: int) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(), [output], name=output, **attributes)


def maps_graph(path: Path, softmax_in: int) -> Path:
    """softmax(x @ w), averaged with itself, as attention maps."""
    return save(
        path,
        [
            node("Cast", "x", "half", to=HALF),
            node("MatMul", "half w", "scores"),
            node("Cast", "scores", "typed", to=softmax_in),
            node("Softmax", "typed", "probabilities"),
            node("Cast", "probabilities", "wide", to=FULL),
            node("Add", "wide wide", "attention_maps"),
        ],
        ["x"],
        ["attention_maps"],
    )


def test_maps_are_fp32_from_their_softmax_on(tmp_path: Path) -> None:
    right = audit(maps_graph(tmp_path / "right.onnx", FULL), "fp16")
    assert right.counts == {"Add": {"fp32": 1}, "MatMul": {"fp16": 1}, "Softmax": {"fp32": 1}}
    assert right.violations == ()
    wrong = maps_graph(tmp_path / "wrong.onnx", HALF)
    assert "Softmax probabilities computes in fp16 instead of fp32" in audit(wrong, "fp16").violations
    with pytest.raises(RealCompoError, match=r"spatial in fp16: .* computes in fp16 instead of fp32, and 1 more"):
        check_precision("spatial", wrong, "fp16")


def test_products_are_in_the_engine_s_precision(tmp_path: Path) -> None:
    wide = save(tmp_path / "wide.onnx", [node("MatMul", "x x", "y")], ["x"], ["y"])
    assert audit(wide, "fp32").violations == ()
    assert audit(wide, "bf16").violations == ("MatMul y computes in fp32 instead of bf16",)


@pytest.mark.parametrize("operator", ["Sin", "Sqrt", "Reciprocal"])
def test_islands(tmp_path: Path, operator: str) -> None:
    def graph(name: str, computes_in: int) -> Path:
        nodes = [
            node("Cast", "x", "typed", to=computes_in),
            node(operator, "typed", "island"),
            node("Cast", "island", "y", to=FULL),
        ]
        return save(tmp_path / name, nodes, ["x"], ["y"])

    assert audit(graph("right.onnx", FULL), "fp16").violations == ()
    narrow = audit(graph("wrong.onnx", HALF), "fp16")
    assert narrow.violations == (f"{operator} island computes in fp16 instead of fp32",)
    assert narrow.counts == {operator: {"fp16": 1}}


def test_the_loss_s_products_are_fp32(tmp_path: Path) -> None:
    """Known by an operand that is made from the regions alone."""
    nodes = [
        node("Softmax", "x", "maps"),
        node("Add", "region_tokens region_tokens", "shares"),
        node("MatMul", "shares maps", "loss"),
        node("Cast", "x", "half", to=HALF),
        node("MatMul", "half w", "product"),
        node("Cast", "product", "y", to=FULL),
    ]
    path = save(tmp_path / "loss.onnx", nodes, ["x", "region_tokens"], ["loss", "y"])
    assert audit(path, "fp16").violations == ()
    assert audit(path, "fp16").counts["MatMul"] == {"fp16": 1, "fp32": 1}


def test_maps_without_a_softmax(tmp_path: Path) -> None:
    path = save(tmp_path / "none.onnx", [node("Add", "x x", "attention_maps")], ["x"], ["attention_maps"])
    assert audit(path, "fp32").violations == ("attention_maps is not made from a softmax",)


@pytest.mark.parametrize("role", tuple(engines_of("gligen")))
def test_engines_of_the_demo_pair_in_half_precision(tabletop_half_bundle: Path, role: Role) -> None:
    engine = read_manifest(tabletop_half_bundle).engines[role]
    path = tabletop_half_bundle / engine.graph[0].name
    found = audit(path, engine.precision)
    assert found.violations == ()
    products = [counts for name, counts in found.counts.items() if name in ("Conv", "ConvTranspose", "Gemm")]
    if role != "grounding":
        assert all(counts.keys() == {"fp16"} for counts in products)
        other = {"fp16": "fp32", "fp32": "fp16"}[engine.precision]
        assert audit(path, other).violations  # the audit tells one from the other
    assert not any("fp16" in found.counts.get(name, {}) for name in ("Sin", "Cos", "Sqrt", "LayerNormalization"))
