"""Real TensorRT-RTX plans, built with no GPU, and what is refused. That a plan takes and gives what its manifest says
is checked where TensorRT has parsed the graph: to read it back from a plan takes a GPU."""

import errno
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

import export.plans.to_engine
from export.build import Options, build
from export.engines import engines_of
from export.graphs.engine import Signature
from export.pairs import Pair
from export.plans import plan_worker
from export.plans.plan_options import BuilderOptions, PlanOptions, plan_options
from export.plans.plan_worker import PlanRequest, Refused, check_memory, make_config
from export.plans.to_engine import build_plan
from runtime.bundle.manifest import EngineSpec, TensorSpec, check_files, read_manifest, sha256_of
from runtime.errors import RealCompoError
from runtime.words import Role

pytestmark = pytest.mark.tensorrt_rtx
trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install tensorrt-rtx-cu12")

BATCH = (1, 2, 8)


def profile_rows(role: Role, batch: tuple[int, int, int]) -> tuple[int, int, int]:
    return (engines_of("gligen") | engines_of("controlnet"))[role].rows(batch)


@pytest.fixture
def options() -> PlanOptions:
    return plan_options("tensorrt-rtx", ("8.9",), BATCH)


@pytest.fixture
def grounding(bundle: Path) -> EngineSpec:
    return read_manifest(bundle).engines["grounding"]


def files(folder: Path, engine: EngineSpec) -> list[Path]:
    return [folder / file.name for file in engine.graph]


def takes(engine: EngineSpec) -> Signature:
    return Signature(engine.inputs, engine.outputs)


def build_plan_of(folder: Path, role: Role, out: Path) -> None:
    """Build one role's plan and compare it with the bundle's manifest and with the graph that onnx reads."""
    engine = read_manifest(folder).engines[role]
    rows = profile_rows(role, BATCH)
    plan = build_plan(files(folder, engine), takes(engine), plan_options("tensorrt-rtx", (), BATCH), rows, out)
    content = out.read_bytes()
    assert plan.file.sha256 == sha256_of(out)
    assert (plan.version, plan.gpu) == (trt.__version__, None)
    assert plan.compute_capabilities == ("8.0", "8.6", "8.9", "12.0", "12.1")
    assert plan.flags == {"strongly_typed": True, "tf32": False}
    graph = onnx.load(files(folder, engine)[0], load_external_data=False).graph
    assert plan.profile == {
        value.name: tuple((count, *(size.dim_value for size in value.type.tensor_type.shape.dim[1:])) for count in rows)
        for value in graph.input
    }
    weights = sum(len(weight.raw_data) for weight in graph.initializer)
    assert len(content) > weights
    assert all(value.name.encode() in content for value in (*graph.input, *graph.output))


@pytest.mark.parametrize("role", tuple(engines_of("gligen")))
def test_plans_of_the_demo_pair(tabletop_bundle: Path, tmp_path: Path, role: Role) -> None:
    build_plan_of(tabletop_bundle, role, tmp_path / "plan.engine")


@pytest.mark.parametrize("role", tuple(engines_of("gligen")))
def test_half_precision_plans_of_the_demo_pair(tabletop_half_bundle: Path, tmp_path: Path, role: Role) -> None:
    build_plan_of(tabletop_half_bundle, role, tmp_path / "plan.engine")


@pytest.mark.parametrize("role", ["spatial", "spatial_gradient", "controlnet"])
def test_plans_of_a_pair_with_controlnets(controlled_bundle: Path, tmp_path: Path, role: Role) -> None:
    build_plan_of(controlled_bundle, role, tmp_path / "plan.engine")


@pytest.mark.slow
def test_whole_bundle_with_plans(pair: Pair, tmp_path: Path) -> None:
    options = Options(backend="tensorrt-rtx", compute_capabilities=("8.9",), batch=(2, 2, 2))
    manifest = build(pair, tmp_path, options)
    check_files(tmp_path, manifest)
    plans = {role: engine.plan for role, engine in manifest.engines.items()}
    assert all(plan and plan.compute_capabilities == ("8.9",) for plan in plans.values())
    assert plans["spatial"] and plans["spatial"].profile["grounding_scale"] == ((2,), (2,), (2,))


def test_memory_is_told_before_progress(
    bundle: Path, grounding: EngineSpec, options: PlanOptions, tmp_path: Path
) -> None:
    told: list[str] = []
    build_plan(files(bundle, grounding), takes(grounding), options, BATCH, tmp_path / "plan", told.append)
    assert told[0].startswith("takes about 0.") and told[0].endswith(" GB of memory")
    assert any("Building engine" in line or "graph" in line for line in told[1:])


def test_rows_of_each_role() -> None:
    assert profile_rows("spatial", (2, 4, 8)) == profile_rows("grounding", (2, 4, 8)) == (2, 4, 8)
    assert profile_rows("spatial_gradient", (2, 4, 8)) == (1, 2, 8)
    assert profile_rows("controlnet", (2, 4, 8)) == (1, 2, 8)  # half of a shared UNet's rows, or all of them
    assert profile_rows("vae_decoder", (1, 1, 1)) == (1, 1, 1)
    assert profile_rows("text_encoder", (2, 2, 2)) == (1, 2, 32)  # a prompt, its negative and 30 phrases


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "float16"}, r"reads the outputs \[\['object_tokens', 'float32', .* the manifest has .*'float16'"),
        ({"name": "tokens"}, r"reads the outputs \[\['object_tokens', .* the manifest has \[\['tokens'"),
        ({"shape": ("batch", 30, 17)}, r"reads the outputs .*-1, 30, 16.* the manifest has .*-1, 30, 17"),
    ],
)
def test_other_outputs_than_the_manifest_s(
    bundle: Path, grounding: EngineSpec, options: PlanOptions, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    output = TensorSpec.model_validate(grounding.outputs[0].model_dump() | change)
    with pytest.raises(RealCompoError, match=message) as caught:
        build_plan(
            files(bundle, grounding), Signature(grounding.inputs, (output,)), options, BATCH, tmp_path / "plan.engine"
        )
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "plan.engine").exists()


def test_rejected_graph(tmp_path: Path, grounding: EngineSpec, options: PlanOptions) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    with pytest.raises(RealCompoError, match=r"the tensorrt-rtx 1\..* plan of bad\.onnx cannot be built: TensorRT"):
        build_plan([tmp_path / "bad.onnx"], takes(grounding), options, BATCH, tmp_path / "bad.engine")


def test_disk_errors_reach_the_build(bundle: Path, grounding: EngineSpec, options: PlanOptions, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file or directory") as caught:
        build_plan(files(bundle, grounding), takes(grounding), options, BATCH, tmp_path / "gone" / "plan.engine")
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize(
    ("ending", "message"),
    [
        ("kill -KILL $$", "the system killed its process, most likely for want of memory; end other programs"),
        ("kill -SEGV $$", r"TensorRT crashed \(SIGSEGV\)"),
        ("exit 1", "its process failed, for the reason above"),
    ],
)
def test_how_a_worker_s_death_is_told(
    bundle: Path,
    grounding: EngineSpec,
    options: PlanOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ending: str,
    message: str,
) -> None:
    (tmp_path / "python").write_text(f"#!/bin/sh\ncat > /dev/null\n{ending}\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(export.plans.to_engine.sys, "executable", str(tmp_path / "python"))
    with pytest.raises(RealCompoError, match=message):
        build_plan(files(bundle, grounding), takes(grounding), options, BATCH, tmp_path / "plan.engine")


def test_memory_that_is_not_there() -> None:
    told: list[dict[str, object]] = []
    with pytest.raises(Refused, match=r"TensorRT takes about 8\.3 GB of memory for it, 4\.0 GB are available"):
        check_memory(10_000, 2_000_000_000, 4_000_000_000, lambda **event: told.append(event))
    assert told == [{"memory": 8_350_000_000}]
    check_memory(10_000, 2_000_000_000, 8_400_000_000, lambda **_: None)


@pytest.mark.parametrize(
    ("builder", "message"),
    [
        (BuilderOptions(optimization_level=6), "--optimization-level 6 is not between 0 and 5"),
        (
            BuilderOptions(optimization_level=0),
            "--optimization-level is for --backend tensorrt; tensorrt-rtx: it chooses",
        ),
        (BuilderOptions(version_compatible=True), "--version-compatible is for --backend tensorrt; .* no lean runtime"),
        (BuilderOptions(timing_cache=Path("t")), "--timing-cache is for --backend tensorrt; tensorrt-rtx: it times"),
        (BuilderOptions(refit=True), "--refit with --backend tensorrt-rtx needs an NVIDIA GPU"),
        (BuilderOptions(strip_weights=True), "--strip-weights with --backend tensorrt-rtx needs an NVIDIA GPU"),
    ],
)
def test_what_tensorrt_rtx_does_not_know(
    builder: BuilderOptions, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RealCompoError, match=message):
        plan_options("tensorrt-rtx", (), BATCH, builder)


def test_what_cannot_be_built_for_is_told() -> None:
    with pytest.raises(RealCompoError, match=r"--compute-capability 7\.5 cannot be built for in fp32; known: 8\.0"):
        plan_options("tensorrt-rtx", ("7.5", "8.9"), BATCH)


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT as far as this machine has it: TensorRT-RTX, which has the same Python API."""
    monkeypatch.setitem(sys.modules, "tensorrt", trt)


def test_tensorrt_builds_for_its_gpu(tensorrt: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        RealCompoError, match="--backend tensorrt builds on the GPU that its plans are for, and PyTorch"
    ):
        plan_options("tensorrt", (), BATCH)
    with pytest.raises(RealCompoError, match="--compute-capability is for --backend tensorrt-rtx"):
        plan_options("tensorrt", ("8.9",), BATCH)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100")
    options = plan_options("tensorrt", (), BATCH)
    assert (options.gpu, options.compute_capabilities) == ("NVIDIA H100", ("9.0",))


def test_flags_reach_the_builder_s_config(tensorrt: None) -> None:
    """On a real IBuilderConfig; which of them TensorRT-RTX refuses when it builds does not matter here."""
    builder = BuilderOptions(optimization_level=1, refit=True, strip_weights=True, version_compatible=True)
    request = PlanRequest(
        onnx="",
        plan="",
        module="tensorrt",
        compute_capabilities=[],
        inputs=[],
        outputs=[],
        profile={},
        flags=builder.flags(),
        timing_cache=None,
        weight_bytes=0,
    )
    config = config_of(request)
    assert config.builder_optimization_level == 1
    assert flags_of(config) == {"REFIT", "STRIP_PLAN", "VERSION_COMPATIBLE"}
    plain = config_of(replace(request, flags=BuilderOptions().flags()))
    assert flags_of(plain) == set() and plain.builder_optimization_level == 3


def config_of(request: PlanRequest) -> Any:
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    return make_config(request, trt, plan_worker.progress_monitor(trt, lambda **_: None))(builder, network)


def flags_of(config: Any) -> set[str]:
    return {name for name, flag in trt.BuilderFlag.__members__.items() if config.get_flag(flag)}
