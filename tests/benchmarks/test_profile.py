"""Profiles: sums of events written out here, and a real engine under ONNX Runtime's profiler."""

from collections import Counter
from pathlib import Path

import onnx
import pytest
import torch

from benchmarks.latency.profile import profile_engine, summarize_onnx
from runtime import RealCompo, RealCompoError
from runtime.bundle.manifest import read_manifest
from tests.benchmarks.profiles import assert_profiled, profile, run


def node(name: str, kind: str, start: int, took: int) -> dict[str, object]:
    return {"name": f"{name}_kernel_time", "ts": start, "dur": took, "args": {"op_name": kind}}


def test_events_of_the_first_run_are_left_out():
    runs = [
        {"name": "model_run", "ts": start, "dur": took}
        for start, took in ((0, 90_000), (100_000, 20_000), (200_000, 40_000))
    ]
    events = [
        {"name": "session_initialization", "ts": -9, "dur": 500_000},
        node("a", "Conv", 10, 80_000),
        *(
            node(name, kind, start, took)
            for start in (100_001, 200_001)
            for name, kind, took in (("a", "Conv", 8_000), ("b", "Mul", 1_000), ("c", "Mul", 3_000))
        ),
    ]
    found = summarize_onnx("spatial", 2, runs + events)
    assert found.milliseconds == 30
    assert [(s.name, s.milliseconds, s.count) for s in found.operators] == [("Conv", 8, 1), ("Mul", 4, 2)]
    assert [(s.name, s.milliseconds) for s in found.nodes] == [("a", 8), ("c", 3), ("b", 1)]


def test_operators_of_an_engine_are_its_graph_s(tabletop_bundle: Path):
    found = profile_engine(tabletop_bundle, "vae_decoder", rows=1)
    graph = onnx.load(tabletop_bundle / read_manifest(tabletop_bundle).engines["vae_decoder"].graph[0].name).graph
    counts = Counter(node.op_type for node in graph.node)
    assert {share.name: share.count for share in found.operators}["Conv"] == counts["Conv"]
    assert 0 < sum(share.milliseconds for share in found.operators) <= found.milliseconds


def test_rows_are_those_of_an_image(tabletop: RealCompo, tabletop_bundle: Path):
    """The spatial model alone, then both twice; what is told of boxes takes a row for each of the UNet's."""
    profiles = profile(tabletop_bundle)
    assert_profiled(profiles, run(tabletop))
    assert {(found.role, found.rows): found.calls for found in profiles} == {
        ("text_encoder", 4): 1,  # the prompt, the negative one, two phrases
        ("grounding", 2): 1,
        ("spatial", 2): 3,
        ("text_to_image", 2): 2,
        ("text_to_image_gradient", 1): 2,
        ("spatial_gradient", 1): 2,
        ("vae_decoder", 1): 1,
    }


def test_a_backend_without_a_plan(tabletop_bundle: Path):
    with pytest.raises(
        RealCompoError, match="has no tensorrt-rtx plan of spatial; build it with --backend tensorrt-rtx"
    ):
        profile_engine(tabletop_bundle, "spatial", "tensorrt-rtx")


@pytest.mark.gpu
@pytest.mark.tensorrt_rtx
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_layers_of_a_plan_add_up_to_its_call(tmp_path: Path):
    from export.build import Options, build
    from export.plans.plan_options import COMPUTE_CAPABILITIES
    from export.spatial import find_pair

    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX")
    capability = ".".join(map(str, torch.cuda.get_device_capability()))
    if capability not in COMPUTE_CAPABILITIES:
        pytest.skip(f"TensorRT-RTX builds no plans for compute capability {capability}")
    build(find_pair("tabletop"), tmp_path, Options(backend="tensorrt-rtx", compute_capabilities=(capability,)))
    found = profile_engine(tmp_path, "spatial", "tensorrt-rtx")
    assert found.nodes and 0 < found.nodes[0].milliseconds <= found.milliseconds
