"""Gradient graphs that do not fit into memory are verified as twins."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from export.build import Options, build
from export.checkpoints.folders import Checkpoints
from export.engines import load_graph, signature
from export.graphs.engine import example_inputs
from export.graphs.geometry import Geometry
from export.graphs.gradient import AttentionGradient
from export.measure import measure
from export.onnx.to_onnx import export_onnx
from export.onnx.twin import OVERHEAD, check_twin, kept_for_backward, runnable_geometry
from export.onnx.verify import verify_bundle
from export.pairs import Pair
from export.spatial import open_checkpoints as open_pair
from runtime.errors import RealCompoError
from tests.export.opening import open_checkpoints

ROLE = "text_to_image_gradient"


@pytest.fixture(scope="module")
def geometry(checkpoints: Checkpoints) -> Geometry:
    return measure(checkpoints, 32, 32)


@pytest.fixture(scope="module")
def graph(checkpoints: Checkpoints, geometry: Geometry) -> AttentionGradient:
    graph = load_graph(ROLE, checkpoints, geometry)
    assert isinstance(graph, AttentionGradient)
    return graph


def limit(monkeypatch: pytest.MonkeyPatch, available: int | None) -> None:
    monkeypatch.setattr("export.onnx.twin.available_memory", lambda: available)


def test_what_the_backward_keeps_grows_with_the_image(
    graph: AttentionGradient, checkpoints: Checkpoints, geometry: Geometry
) -> None:
    """Self-attention's share with the square of the pixels: 16 heads-times-layers of (256, 256) fp32 at the least."""
    kept = kept_for_backward(graph, ROLE, geometry)
    attention = [module for name, module in graph.model.unet.named_modules() if name.endswith("attn1")]
    before_the_end = [module for module in attention if module.heads][:-1]
    assert kept > sum(4 * module.heads * 256**2 for module in before_the_end)
    small = kept_for_backward(graph, ROLE, measure(checkpoints, 16, 16))
    assert 4 * small < kept < 16 * small


def test_a_model_in_two_places_keeps_its_weights(controlled_pair: Pair, tmp_path: Path) -> None:
    """One ControlNet with two uses, beside the same in two folders."""
    (one, _) = controlled_pair.controls
    shutil.copytree(one.model, tmp_path / "copy")
    kept = []
    for other in (Path(one.model), tmp_path / "copy"):
        checkpoints = open_pair(replace(controlled_pair, controls=(one, replace(one, model=str(other)))))
        geometry = measure(checkpoints, 32, 32)
        graph = load_graph("spatial_gradient", checkpoints, geometry)
        assert isinstance(graph, AttentionGradient)
        kept.append(kept_for_backward(graph, "spatial_gradient", geometry))
        assert not any(weight.is_meta for weight in graph.parameters())
    assert kept[0] == kept[1]


@pytest.mark.parametrize("available", [None, 2**40])
def test_with_memory_it_is_the_graph_itself(
    graph: AttentionGradient, geometry: Geometry, monkeypatch: pytest.MonkeyPatch, available: int | None
) -> None:
    limit(monkeypatch, available)
    assert runnable_geometry(graph, ROLE, geometry) is geometry


def test_with_less_memory_it_is_as_large_a_twin_as_fits(
    graph: AttentionGradient, geometry: Geometry, checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, int(OVERHEAD * kept_for_backward(graph, ROLE, geometry)))  # weights are left out
    assert runnable_geometry(graph, ROLE, geometry) == measure(checkpoints, 16, 16)
    limit(monkeypatch, 10_000)
    with pytest.raises(RealCompoError, match=r"text_to_image_gradient: to verify it takes about .* build on a larger"):
        runnable_geometry(graph, ROLE, geometry)


def test_decoders_of_large_images_are_verified_with_smaller_ones(checkpoints: Checkpoints) -> None:
    graph, large = load_graph("vae_decoder", checkpoints, measure(checkpoints)), measure(checkpoints, 1024, 1536)
    assert runnable_geometry(graph, "vae_decoder", large).image_size == (256, 384)
    own = measure(checkpoints, 512, 512)
    assert runnable_geometry(graph, "vae_decoder", own) is own


def test_twins_are_the_same_graph(
    graph: AttentionGradient, checkpoints: Checkpoints, geometry: Geometry, tmp_path: Path
) -> None:
    paths = {}
    for name, sizes in (("own", geometry), ("twin", measure(checkpoints, 16, 16))):
        takes = signature(ROLE, sizes)
        (paths[name],) = export_onnx(graph, takes, example_inputs(takes, 2, 5), tmp_path / f"{name}.onnx")
    check_twin(paths["own"], paths["twin"])
    takes = signature("grounding", geometry)
    grounding = load_graph("grounding", checkpoints, geometry)
    (stranger,) = export_onnx(grounding, takes, example_inputs(takes, 2, 5), tmp_path / "stranger.onnx")
    with pytest.raises(AssertionError, match="not the same graph"):
        check_twin(paths["own"], stranger)


@pytest.mark.slow
def test_a_bundle_tells_of_its_twins(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "export.build.runnable_geometry",
        lambda graph, role, geometry: measure_half(pair) if isinstance(graph, AttentionGradient) else geometry,
    )
    manifest = build(pair, tmp_path, Options(height=32, width=32))
    for role, engine in manifest.engines.items():
        assert engine.verified_size == ((16, 16) if "gradient" in role else None)
        assert max(engine.verification.values()) < 1e-4
    told = {check.role: check.why for check in verify_bundle(tmp_path)}
    assert "of a twin for 16x16 pixels" in told[ROLE] and told["spatial"] == ""


def measure_half(pair: Pair) -> Geometry:
    return measure(open_checkpoints(pair.text_to_image, pair.spatial), 16, 16)
