"""Half precision: which weights it reaches, how far it is from PyTorch in float64, and what engines compute in."""

from pathlib import Path

import pytest
import torch
from torch import nn

from export.build import Options, build
from export.checkpoints.folders import Checkpoints
from export.engines import load_graph, signature
from export.graphs.engine import example_inputs
from export.graphs.geometry import Geometry
from export.onnx.precision import LOSS_SCALES, lower
from export.onnx.verify import check_errors, expected_outputs
from export.onnx.widen import widen_bundle
from export.pairs import Pair
from runtime import RealCompo, Region
from runtime.bundle.manifest import read_manifest
from runtime.errors import RealCompoError
from runtime.layouts.layout import Layout
from runtime.words import Precision, Role

UNETS: tuple[Role, ...] = ("text_to_image", "spatial", "text_to_image_gradient", "spatial_gradient")


def lowered_names(graph: nn.Module) -> set[str]:
    return {name for name, weight in graph.named_parameters() if weight.dtype == torch.float16}


@pytest.mark.parametrize("role", UNETS)
def test_norms_are_islands(checkpoints: Checkpoints, geometry: Geometry, role: Role) -> None:
    graph = load_graph(role, checkpoints, geometry)
    norms = {
        f"{name}.{weight}"
        for name, module in graph.named_modules()
        if isinstance(module, nn.GroupNorm | nn.LayerNorm)
        for weight in ("weight", "bias")
    }
    everything = {name for name, _ in graph.named_parameters()}
    lower(graph, "fp16")
    assert lowered_names(graph) == everything - norms


@pytest.mark.parametrize("role", UNETS)
def test_outputs_stay_close_to_float64(checkpoints: Checkpoints, geometry: Geometry, role: Role) -> None:
    takes = signature(role, geometry)
    graph = load_graph(role, checkpoints, geometry, LOSS_SCALES["fp16"])
    expected = expected_outputs(graph, takes, geometry.vocabulary)
    lower(graph, "fp16")
    for rows, targets in expected.items():
        with torch.no_grad():
            outputs = graph(**example_inputs(takes, rows, geometry.vocabulary))
        for tensor, output, target in zip(takes.outputs, outputs, targets, strict=True):
            assert output.dtype == torch.float32, tensor.name
            error = (output - torch.from_numpy(target)).abs().max() / abs(target).max()
            assert error < 2e-2, tensor.name


@pytest.fixture(scope="module", params=["fp16", "bf16"])
def half(request: pytest.FixtureRequest, pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("half")
    build(pair, out, Options(precision=request.param))
    return out


@pytest.mark.slow
def test_half_precision_bundles_say_what_they_compute_in_and_draw(half: Path, tmp_path: Path) -> None:
    manifest = read_manifest(half)
    assert manifest.loss_scale == LOSS_SCALES[manifest.precision]
    assert {role for role, engine in manifest.engines.items() if engine.precision == "fp32"} == {"grounding"}
    assert all(tensor.dtype == "float32" for e in manifest.engines.values() for tensor in e.outputs)
    if manifest.precision == "bf16":
        with pytest.raises(RealCompoError, match=r"lacks bf16 operators here.*python -m export widen"):
            RealCompo.load(half)
        widen_bundle(half, tmp_path / "widened")
        half = tmp_path / "widened"
    layout = Layout([Region("red ball", box=(0.1, 0.1, 0.6, 0.6))])
    drawn = RealCompo.load(half)("red ball", layout=layout, steps=3, sampler="plms")
    assert drawn.latents.isfinite().all() and drawn.stats.skipped_updates == 0
    assert drawn.stats.calls["spatial_gradient"] == 3


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_gradients_in_half_precision_may_be_rough_but_no_garbage(precision: Precision) -> None:
    """Of a gradient that is zero the relative error is 1, of one with its sign turned 2."""
    check_errors("spatial_gradient", {"loss": 1e-3, "grad_latents": 0.1}, precision)
    for error in (1.0, 2.0, float("nan"), float("inf")):
        with pytest.raises(RealCompoError, match=r"grad_latents differs from PyTorch by .*; at most 5e-01 is accepted"):
            check_errors("spatial_gradient", {"loss": 1e-3, "grad_latents": error}, precision)
