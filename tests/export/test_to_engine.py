"""Real TensorRT-RTX plans, built with no GPU."""

from pathlib import Path

import pytest

from export.build import Options, build
from export.geometry import Geometry
from export.pairs import Pair
from export.roles import Signature, signature
from export.to_engine import build_plan, plan_options
from runtime.bundle import Role, check_files, read_manifest, sha256_of
from runtime.errors import RealCompoError

pytestmark = pytest.mark.tensorrt_rtx
trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install tensorrt-rtx-cu12")


def test_spatial_plan(bundle: Path, geometry: Geometry, tmp_path: Path) -> None:
    options = plan_options("tensorrt-rtx", (), (1, 2, 8))
    onnx = bundle / read_manifest(bundle).engines["spatial"].graph[0].name
    plan = build_plan(onnx, signature("spatial", geometry), options, tmp_path / "spatial.engine")
    content = (tmp_path / "spatial.engine").read_bytes()
    assert len(content) > 100_000
    assert plan.file.sha256 == sha256_of(tmp_path / "spatial.engine")
    assert plan.version == trt.__version__
    assert plan.compute_capabilities == ("8.0", "8.6", "8.9", "12.0", "12.1")
    assert plan.profile["latents"] == ((1, 4, 8, 8), (2, 4, 8, 8), (8, 4, 8, 8))
    assert plan.profile["grounding_scale"] == ((1,), (2,), (8,))
    for output in (b"noise_pred", b"attention_maps"):
        assert output in content


@pytest.mark.parametrize("role", ["text_to_image_gradient", "spatial_gradient"])
def test_gradient_plans_of_the_demo_pair(tabletop_bundle: Path, tmp_path: Path, role: Role) -> None:
    engine = read_manifest(tabletop_bundle).engines[role]
    options = plan_options("tensorrt-rtx", ("8.9",), (1, 1, 4))
    takes = Signature(engine.inputs, engine.outputs)
    plan = build_plan(tabletop_bundle / engine.graph[0].name, takes, options, tmp_path / "gradient.engine")
    content = (tmp_path / "gradient.engine").read_bytes()
    assert plan.profile["region_masks"] == ((1, 30, 256), (1, 30, 256), (4, 30, 256))
    for output in (b"loss", b"grad_latents", b"region_maps"):
        assert output in content


@pytest.mark.slow
def test_whole_bundle_with_plans(pair: Pair, tmp_path: Path) -> None:
    options = Options(backend="tensorrt-rtx", compute_capabilities=("8.9",))
    manifest = build(pair, tmp_path, options)
    check_files(tmp_path, manifest)
    plans = [engine.plan for engine in manifest.engines.values()]
    assert all(plan and plan.compute_capabilities == ("8.9",) for plan in plans)


def test_what_cannot_be_built_for_is_told() -> None:
    with pytest.raises(RealCompoError, match=r"--compute-capability 7\.5 cannot be built for in fp32; known: 8\.0"):
        plan_options("tensorrt-rtx", ("7.5", "8.9"), (1, 2, 8))


def test_rejected_graph(tmp_path: Path, geometry: Geometry) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    options = plan_options("tensorrt-rtx", ("8.9",), (1, 2, 8))
    with pytest.raises(RealCompoError, match=r"tensorrt-rtx 1\..* cannot build bad\.onnx"):
        build_plan(tmp_path / "bad.onnx", signature("grounding", geometry), options, tmp_path / "bad.engine")
