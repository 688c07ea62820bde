"""The contract of a runner, on every backend: ONNX Runtime, and both flavours of TensorRT over `RecordingTensorRT`."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from runtime import RealCompoError
from runtime.backends import load_engines, onnxruntime
from runtime.backends.base import ELEMENT_TYPES
from runtime.backends.halves import HalvedRunner
from runtime.backends.onnxruntime import OnnxRuntimeRunner, choose_providers
from runtime.backends.streams import Streams
from runtime.bundle.manifest import read_manifest
from runtime.runner import Runner
from runtime.words import FLAVOURS, Flavour, Precision, Role
from tests.runtime.bundles import CONTEXT, LATENT, MAP, SLOTS, WIDTH, Part
from tests.runtime.recording import add_plans, recording_engines, recording_library

Load = Callable[[Role], Runner]


@pytest.fixture(scope="module", params=["onnx", "onnx, halved", *FLAVOURS])
def load(
    request: pytest.FixtureRequest, bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Role], Runner]]:
    """Loads a role's runner."""
    if request.param == "onnx":
        yield lambda role: graph_runner(bundle, role)
        return
    if request.param == "onnx, halved":
        streams = Streams(torch.device("cpu"), second=True)
        yield lambda role: HalvedRunner(whole := graph_runner(bundle, role), whole.twin(), streams)
        return
    flavour: Flavour = request.param
    folder = Path(shutil.copytree(bundle, tmp_path_factory.mktemp("plans") / "bundle"))
    add_plans(folder, flavour)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        engines = recording_engines(recording_library(flavour), folder)
        yield lambda role: engines.runners[role]


def graph_runner(bundle: Path, role: Role) -> OnnxRuntimeRunner:
    manifest = read_manifest(bundle)
    return OnnxRuntimeRunner(bundle, manifest, manifest.engines[role], torch.device("cpu"), threads=1)


@pytest.fixture
def runner(load: Load) -> Runner:
    return load("text_to_image")


def inputs(rows: int = 2) -> dict[str, torch.Tensor]:
    return {
        "latents": torch.randn(rows, 4, LATENT, LATENT),
        "timestep": torch.full((rows,), 500.0),
        "encoder_hidden_states": torch.randn(rows, CONTEXT, WIDTH),
    }


def gradient_inputs(rows: int) -> dict[str, torch.Tensor]:
    return inputs(rows) | {
        "object_tokens": torch.randn(rows, SLOTS, WIDTH),
        "grounding_scale": torch.rand(rows),
        "region_masks": torch.rand(rows, SLOTS, MAP * MAP),
        "region_tokens": torch.rand(rows, SLOTS, CONTEXT).round(),
        "region_weights": torch.ones(rows, SLOTS),
    }


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_runner_equals_pytorch(runner: Runner, parts: dict[Role, Part], rows: int) -> None:
    given = inputs(rows)
    noise, maps = parts["text_to_image"].module(**given)
    found = runner(**given)
    torch.testing.assert_close(found["noise_pred"], noise, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["attention_maps"], maps, rtol=1e-4, atol=1e-5)


def test_an_engine_with_many_tensors_equals_pytorch(load: Load, parts: dict[Role, Part]) -> None:
    given = gradient_inputs(3)
    found = load("spatial_gradient")(**given)
    for name, wanted in zip(found, parts["spatial_gradient"].module(**given), strict=True):
        torch.testing.assert_close(found[name], wanted, rtol=1e-3, atol=1e-5)


def test_a_large_graph_is_left_as_it_is_and_computes_the_same(
    bundle: Path, parts: dict[Role, Part], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "PACKED_BYTES", 0)
    runners = load_engines(bundle, read_manifest(bundle), "onnx", "cpu", second_stream=False).runners
    given = gradient_inputs(3)
    found = runners["spatial_gradient"](**given)
    for name, wanted in zip(found, parts["spatial_gradient"].module(**given), strict=True):
        torch.testing.assert_close(found[name], wanted, rtol=1e-3, atol=1e-5)


def test_outputs_are_the_manifests(load: Load) -> None:
    gradient = load("spatial_gradient")
    found = gradient(**gradient_inputs(3))
    assert {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in found.items()} == {
        tensor.name: (ELEMENT_TYPES[tensor.dtype].torch, (3, *tensor.shape[1:])) for tensor in gradient.spec.outputs
    }


def test_batches_may_change_from_call_to_call(runner: Runner, parts: dict[Role, Part]) -> None:
    for rows in (5, 1, 5, 3, 1):
        given = inputs(rows)
        wanted = parts["text_to_image"].module(**given)[0]
        torch.testing.assert_close(runner(**given)["noise_pred"], wanted, rtol=1e-4, atol=1e-5)


def test_runner_takes_views(runner: Runner) -> None:
    given = inputs(2)
    wanted = runner(**given)["noise_pred"].clone()
    strided = given | {
        "latents": given["latents"].transpose(2, 3).contiguous().transpose(2, 3),
        "timestep": torch.tensor([500.0]).expand(2),
    }
    torch.testing.assert_close(runner(**strided)["noise_pred"], wanted)


def test_runner_leaves_its_inputs_alone(runner: Runner) -> None:
    given = inputs(2)
    before = {name: tensor.clone() for name, tensor in given.items()}
    runner(**given)
    assert all(torch.equal(given[name], before[name]) for name in given)


def test_runner_reuses_its_buffers(runner: Runner) -> None:
    if isinstance(runner, HalvedRunner):
        pytest.skip("it joins its halves in new memory")
    pointers = {runner(**inputs(2))["noise_pred"].data_ptr() for _ in range(3)}
    assert len(pointers) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latents": None}, "text_to_image needs latents too; it takes latents, timestep, encoder_hidden_states"),
        ({"boxes": torch.zeros(2, 4)}, "text_to_image has no input boxes; it takes latents"),
        ({"latents": torch.zeros(2, 4, 8, 8).double()}, r"latents as float32, not float64: convert it with .to\("),
        ({"timestep": torch.zeros(2, dtype=torch.int32)}, "timestep as float32, not int32"),
        ({"latents": torch.zeros(2, 4, 4, 4)}, r"latents of shape \(batch, 4, 8, 8\).*, not \(2, 4, 4, 4\): pass that"),
        ({"timestep": torch.zeros(3)}, r"timestep of shape \(batch\) with batch = 2, not \(3,\)"),
        ({"timestep": torch.zeros(2, 1)}, r"not \(2, 1\)"),
    ],
)
def test_runner_checks_what_it_is_given(runner: Runner, change: dict[str, torch.Tensor | None], message: str) -> None:
    given = {name: tensor for name, tensor in (inputs() | change).items() if tensor is not None}
    with pytest.raises(RealCompoError, match=message):
        runner(**given)


@pytest.mark.parametrize(
    ("shared_unet", "wanted"),
    [
        (False, {"text_to_image": 2, "spatial": 4, "text_to_image_gradient": 2, "spatial_gradient": 2}),
        (True, {"spatial": 4, "spatial_gradient": 4}),  # nothing works beside these
    ],
)
def test_engines_share_the_threads_of_a_cpu(bundle: Path, shared_unet: bool, wanted: dict[Role, int]) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        manifest = read_manifest(bundle).model_copy(update={"shared_unet": shared_unet})
        runners = load_engines(bundle, manifest, "onnx", "cpu", second_stream=False).runners
    finally:
        torch.set_num_threads(before)
    for role, threads in {**wanted, "vae_decoder": 4}.items():
        runner = runners[role]
        assert isinstance(runner, OnnxRuntimeRunner)
        assert runner._session.get_session_options().intra_op_num_threads == threads, role


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_tensorrts_provider_is_told_no_precision(bundle: Path, precision: Precision) -> None:
    """It is in the graph, and TensorRT 11 has no flags for it; the other options name the bundle's range of rows."""
    manifest = read_manifest(bundle)
    spec = manifest.engines["vae_decoder"].model_copy(update={"precision": precision})
    (name, options), *_ = choose_providers(manifest, spec, torch.device("cuda", 1), tensorrt=True)
    assert name == "TensorrtExecutionProvider"
    assert not [option for option in options if "fp16" in option or "bf16" in option]
    assert options["trt_profile_min_shapes"] == "latents:1x4x8x8"
    assert options["trt_profile_max_shapes"] == "latents:8x4x8x8"
