"""TensorRT's runner up to the driver calls, on `RecordingTensorRT`, and what it says of every fault."""

import inspect
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from runtime import RealCompo, RealCompoError
from runtime.backends import Engines
from runtime.backends.plans import check_plans, import_flavour, is_lean, load_plan, open_library
from runtime.bundle.manifest import read_manifest
from runtime.output import Output
from runtime.text.tokens import open_tokenizers
from runtime.words import FLAVOURS, Flavour
from tests.runtime import recording
from tests.runtime.bundles import Part, make_parts
from tests.runtime.recording import (
    VERSION,
    RecordingDriver,
    RecordingTensorRT,
    add_plans,
    recording_engines,
    recording_library,
)
from tests.runtime.test_pipeline import LAYOUT, PROMPT
from tests.runtime.test_runners import inputs

OPTIONS: dict[str, Any] = {"layout": LAYOUT, "steps": 5, "coefficient_scale": 1e3}
ROLES = tuple(make_parts())
SETUP = ("create_execution_context", "set_device_memory", "set_optimization_profile_async")


@pytest.fixture
def folder(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the tiny bundle, to give plans to."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Path(shutil.copytree(bundle, tmp_path / "bundle"))


class Loaded(NamedTuple):
    engines: Engines
    calls: RecordingTensorRT
    driver: RecordingDriver


def load(folder: Path, flavour: Flavour = "tensorrt", second_stream: bool = False, **plan: Any) -> Loaded:
    add_plans(folder, flavour, **plan)
    module, driver = RecordingTensorRT(), RecordingDriver()
    engines = recording_engines(recording_library(flavour, module, driver), folder, second_stream)
    engines.open(ROLES)
    return Loaded(engines, module, driver)


def draw(folder: Path, engines: Engines) -> Output:
    """A picture, every evaluation call by call."""
    manifest = read_manifest(folder)
    return RealCompo(manifest, open_tokenizers(folder, manifest), replace(engines, capturable=False))(PROMPT, **OPTIONS)


def names(calls: list[tuple[Any, ...]]) -> list[str]:
    return [call[0] for call in calls]


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_context_is_set_up_once_for_each_number_of_rows(folder: Path, flavour: Flavour) -> None:
    loaded = load(folder, flavour)
    runner, calls = loaded.engines.runners["text_to_image"], loaded.calls.calls
    calls.clear()
    runner(**inputs(2))
    cache = ["serialize"] if flavour == "tensorrt-rtx" else []
    setup = [*SETUP, *["set_input_shape"] * 3, *["set_tensor_address"] * 5, "execute_async_v3", *cache]
    assert names(loaded.calls.of("text_to_image")) == [*setup, "execute_async_v3"]
    calls.clear()
    runner(**inputs(2))
    assert names(loaded.calls.of("text_to_image")) == ["execute_async_v3"]
    calls.clear()
    runner(**inputs(3))
    assert names(loaded.calls.of("text_to_image")) == [*setup, "execute_async_v3"]
    calls.clear()
    runner(**inputs(2))
    runner(**inputs(3))
    assert names(loaded.calls.of("text_to_image")) == ["execute_async_v3"] * 2


def test_fewer_rows_than_a_plan_takes_are_filled_up(folder: Path, parts: dict[Any, Part]) -> None:
    runner = load(folder, profiles=[[4, 4, 4]]).engines.runners["text_to_image"]
    for rows in (1, 3):
        given = inputs(rows)
        found, wanted = runner(**given)["noise_pred"], parts["text_to_image"].module(**given)[0]
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_more_rows_than_a_plan_takes(folder: Path) -> None:
    runner = load(folder, profiles=[[2, 2, 4]]).engines.runners["text_to_image"]
    line = r"text_to_image takes at most 4 rows at once, not 5: draw fewer .* build tiny .*tensorrt --batch 1:2:5$"
    with pytest.raises(RealCompoError, match=line):
        runner(**inputs(5))


def test_what_is_written_in_place_is_not_copied(folder: Path, parts: dict[Any, Part]) -> None:
    runner = load(folder).engines.runners["text_to_image"]
    buffers, given = runner.inputs(2), inputs(2)  # type: ignore[attr-defined]
    for name, tensor in given.items():
        buffers[name].copy_(tensor)
    versions = {name: buffer._version for name, buffer in buffers.items()}
    found = runner(**buffers)["noise_pred"]
    assert {name: buffer._version for name, buffer in buffers.items()} == versions
    torch.testing.assert_close(found, parts["text_to_image"].module(**given)[0], rtol=1e-4, atol=1e-5)


def test_work_goes_to_the_current_stream(folder: Path) -> None:
    loaded = load(folder)
    runner = loaded.engines.runners["text_to_image"]
    runner(**inputs())
    loaded.driver.current_stream = 8
    loaded.calls.calls.clear()
    runner(**inputs())
    assert loaded.calls.of("text_to_image") == [("execute_async_v3", 8)]


@pytest.mark.parametrize("second_stream", [False, True])
def test_contexts_that_may_overlap_have_scratch_memory_of_their_own(folder: Path, second_stream: bool) -> None:
    loaded = load(folder, second_stream=second_stream)
    draw(folder, loaded.engines)
    memory = {role: loaded.calls.of(role, "set_device_memory")[0][1:] for role in loaded.engines.runners}
    beside = {memory["text_to_image"], memory["text_to_image_gradient"]}
    others = {block for role, block in memory.items() if not role.startswith("text_to_image")}
    assert len(beside) == len(others) == 1
    assert (beside != others) == second_stream
    assert next(iter(others))[1] == 6000  # the last role's, see `add_plans`


def test_tensorrt_rtx_compiles_for_the_shape_and_keeps_what_it_compiled(folder: Path, tmp_path: Path) -> None:
    first = load(folder, "tensorrt-rtx")
    assert first.calls.of("spatial", "set_runtime_cache") == [("set_runtime_cache", "EAGER", b"")]
    draw(folder, first.engines)
    files = list((tmp_path / "cache" / "realcompo" / "tensorrt-rtx").iterdir())
    assert len(files) == len(first.engines.runners)
    second = load(folder, "tensorrt-rtx")
    assert second.calls.of("spatial", "set_runtime_cache")[0][2] == b"kernels of spatial"


def test_a_cache_that_cannot_be_written_does_no_harm(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    load(folder, "tensorrt-rtx").engines.runners["text_to_image"](**inputs())


def test_a_picture_equals_onnx_runtimes(folder: Path, pipe: RealCompo) -> None:
    loaded = load(folder)
    found, wanted = draw(folder, loaded.engines), pipe(PROMPT, **OPTIONS)
    torch.testing.assert_close(found.latents, wanted.latents, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.asarray(found.images[0], float), np.asarray(wanted.images[0], float), atol=1)


@pytest.mark.parametrize("allowed", [False, True])
def test_host_code_of_plans_runs_only_where_the_manifest_says_so(folder: Path, allowed: bool) -> None:
    loaded = load(folder, flags={"version_compatible": allowed})
    assert loaded.calls.of("spatial", "deserialize_cuda_engine") == [("deserialize_cuda_engine", allowed)]


def test_weights_of_a_stripped_plan_come_from_the_graph(folder: Path) -> None:
    loaded = load(folder, flags={"strip_weights": True})
    graph = str(folder / "spatial.onnx")
    assert loaded.calls.of("spatial")[1:] == [("refit_from_file", graph), ("refit_cuda_engine",)]
    assert load(folder).calls.of("spatial", "refit_from_file") == []


def open_plans(folder: Path, module: RecordingTensorRT | None = None) -> Engines:
    engines = recording_engines(recording_library("tensorrt", module), folder)
    engines.open(ROLES)
    return engines


def test_stripped_plan_without_its_graph(folder: Path) -> None:
    add_plans(folder, "tensorrt", flags={"strip_weights": True})
    (folder / "spatial.onnx").rename(folder / "moved.onnx")
    plan = folder / "spatial.engine"
    plan.write_text(plan.read_text().replace("spatial.onnx", "moved.onnx"))
    with pytest.raises(RealCompoError, match=r"spatial.onnx is missing, and the plan of spatial is stripped.*Build it"):
        open_plans(folder)


def test_weights_that_do_not_fit_a_stripped_plan(folder: Path) -> None:
    add_plans(folder, "tensorrt", flags={"strip_weights": True})
    module = RecordingTensorRT()
    module.fits = False
    with pytest.raises(RealCompoError, match=r"the weights of text_encoder.onnx do not fit text_encoder's plan"):
        open_plans(folder, module)


def test_damaged_plan(folder: Path) -> None:
    add_plans(folder, "tensorrt")
    (folder / "spatial.engine").write_bytes(b"junk")
    line = (
        r"spatial.engine does not load as a plan of tensorrt: header.magicTag == kEXPECTED_MAGIC_TAG failed. Build it"
    )
    with pytest.raises(RealCompoError, match=line):
        open_plans(folder)
    (folder / "spatial.engine").unlink()
    with pytest.raises(RealCompoError, match=r"cannot read .*spatial.engine: No such file.*Build it"):
        open_plans(folder)


def test_weights_that_do_not_fit_the_gpu(folder: Path) -> None:
    add_plans(folder, "tensorrt", too_large=True)
    with pytest.raises(
        RealCompoError, match=r"the weights of text_encoder.engine take 0 MiB, 3 MiB are free on Record"
    ):
        open_plans(folder)


def test_buffers_that_do_not_fit_the_gpu(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = load(folder, scratch=5 * 2**20).engines.runners["text_to_image"]

    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "zeros", full)
    monkeypatch.setattr("runtime.backends.tensorrt.torch.empty", full)
    with pytest.raises(RealCompoError, match=r"out of GPU memory: the activations take 5 MiB, 3 MiB are free.*--batch"):
        runner(**inputs())


def test_context_that_is_not_created(folder: Path) -> None:
    loaded = load(folder)
    loaded.calls.contexts_left = 0
    with pytest.raises(RealCompoError, match="text_to_image: TensorRT creates no execution context: no room; 3 MiB"):
        loaded.engines.runners["text_to_image"](**inputs())


@pytest.mark.parametrize(
    "method", ["set_optimization_profile_async", "set_input_shape", "set_tensor_address", "execute_async_v3"]
)
def test_call_that_fails(folder: Path, method: str) -> None:
    loaded = load(folder)
    loaded.calls.fails = method
    with pytest.raises(RealCompoError, match=f"text_to_image fails in TensorRT: {method} failed. Build it with"):
        loaded.engines.runners["text_to_image"](**inputs())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "maps"}, "spatial.engine has the outputs noise_pred, attention_maps, but the manifest says noise_pr"),
        ({"dtype": "float16"}, "spatial.engine has attention_maps as FLOAT, but the manifest says float16. Build it"),
    ],
)
def test_plan_with_other_tensors_than_the_manifest_says(folder: Path, change: dict[str, str], message: str) -> None:
    manifest = add_plans(folder, "tensorrt")
    spec = manifest.engines["spatial"]
    outputs = (spec.outputs[0], spec.outputs[1].model_copy(update=change))
    library = recording_library("tensorrt")
    with pytest.raises(RealCompoError, match=message):
        load_plan(library, folder, manifest, spec.model_copy(update={"outputs": outputs}))


@pytest.mark.parametrize(
    ("built", "flags", "asked", "version", "capability", "message"),
    [
        (
            "tensorrt-rtx",
            {},
            "tensorrt",
            VERSION,
            "8.9",
            "is a plan of tensorrt-rtx, not tensorrt; use backend='tensorrt-",
        ),
        ("tensorrt", {}, "tensorrt", "1.8.0", "8.9", "was built with tensorrt 1.7.1.116, but 1.8.0 is installed"),
        ("tensorrt", {"version_compatible": True}, "tensorrt", "1.6.0", "8.9", "but 1.6.0 is installed"),
        ("tensorrt", {"version_compatible": True}, "tensorrt", "2.0.0", "8.9", "but 2.0.0 is installed"),
        (
            "tensorrt-rtx",
            {},
            "tensorrt-rtx",
            VERSION,
            "8.6",
            "8.9; Recording GPU has 8.6.*rtx --compute-capability 8.6$",
        ),
        ("tensorrt", {}, "tensorrt", VERSION, "9.0", "is for compute capability 8.9; .*--backend tensorrt$"),
    ],
)
def test_plans_that_do_not_fit_this_machine(
    folder: Path, built: Flavour, flags: dict[str, Any], asked: Flavour, version: str, capability: str, message: str
) -> None:
    manifest = add_plans(folder, built, flags)
    with pytest.raises(RealCompoError, match=message):
        check_plans(folder, manifest, asked, version, RecordingDriver(capability))


def test_plans_that_fit(folder: Path) -> None:
    check_plans(folder, add_plans(folder, "tensorrt"), "tensorrt", VERSION, RecordingDriver())
    compatible = add_plans(folder, "tensorrt", {"version_compatible": True})
    check_plans(folder, compatible, "tensorrt", "1.8.0", RecordingDriver())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({}, "is not version-compatible, .* lean runtime .*realcompo.tensorrt.*rebuild with --version-compatible"),
        ({"version_compatible": True, "strip_weights": True}, "is stripped of its weights, .* without --strip-weights"),
    ],
)
def test_plans_that_the_lean_runtime_does_not_run(folder: Path, flags: dict[str, Any], message: str) -> None:
    manifest = add_plans(folder, "tensorrt", flags)
    with pytest.raises(RealCompoError, match=message) as refused:
        check_plans(folder, manifest, "tensorrt", VERSION, RecordingDriver(), lean=True)
    assert len(str(refused.value)) < 300


def test_the_lean_runtime_stands_in_where_tensorrt_is_not_installed(folder: Path) -> None:
    """The real one, of the development's extra: it starts without a GPU and is told from the whole library."""
    module = import_flavour("tensorrt")
    assert (module.__name__, is_lean(module)) == ("tensorrt_lean_bindings", True)
    assert not is_lean(import_flavour("tensorrt-rtx"))
    compatible = add_plans(folder, "tensorrt", {"version_compatible": True})
    check_plans(folder, compatible, "tensorrt", VERSION, RecordingDriver(), lean=True)


def test_bundle_without_plans(bundle: Path) -> None:
    with pytest.raises(RealCompoError, match=r"has no plan of text_encoder.*use backend='onnx'.*--backend tensorrt$"):
        check_plans(bundle, read_manifest(bundle), "tensorrt", VERSION, RecordingDriver())


def test_library_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RealCompoError, match=r"backend='tensorrt': tensorrt does not load .* 'realcompo\[tensorrt\]'"):
        import_flavour("tensorrt")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "tensorrt-rtx"}, "plans take an NVIDIA GPU and a CUDA build of torch; use backend='onnx'"),
        ({"backend": "tensorrt-rtx", "device": "cpu"}, "device='cpu': plans take an NVIDIA GPU"),
        (
            {"backend": "onnx-tensorrt"},
            "device='auto': it takes a GPU and an onnxruntime-gpu with the TensorRT provider",
        ),
        (
            {"second_stream": True},
            "second_stream=True takes a GPU, and plans or ONNX Runtime's CUDA provider",
        ),
    ],
)
def test_plans_without_a_gpu(folder: Path, options: dict[str, Any], message: str) -> None:
    add_plans(folder, "tensorrt-rtx")
    with pytest.raises(RealCompoError, match=message) as refused:
        RealCompo.load(folder, **options)
    assert "\n" not in str(refused.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_auto_runs_the_graphs_where_there_is_no_gpu(folder: Path, pipe: RealCompo) -> None:
    add_plans(folder, "tensorrt-rtx")
    found = RealCompo.load(folder)(PROMPT, **OPTIONS)
    torch.testing.assert_close(found.latents, pipe(PROMPT, **OPTIONS).latents)


@pytest.mark.tensorrt_rtx
def test_the_real_library_says_why_a_plan_does_not_load(folder: Path) -> None:
    """TensorRT-RTX itself, which needs no GPU to refuse a damaged plan."""
    manifest = add_plans(folder, "tensorrt-rtx")
    library = open_library("tensorrt-rtx", import_flavour("tensorrt-rtx"), RecordingDriver())
    with pytest.raises(
        RealCompoError, match=r"text_encoder.engine does not load as a plan of tensorrt-rtx: .*magicTag"
    ):
        load_plan(library, folder, manifest, manifest.engines["text_encoder"])


# What the runner calls of TensorRT-RTX alone, and of `tensorrt` what its lean runtime has not, which has no plans to
# refit: see `plans.check_plans`.
RTX_ALONE = {
    "DynamicShapesKernelSpecializationStrategy",
    "create_runtime_cache",
    "set_runtime_cache",
    "deserialize",
    "serialize",
    "is_stream_capturable",
}
NOT_IN = {"tensorrt-rtx": set(), "tensorrt": {*RTX_ALONE, "OnnxParserRefitter"}}
FAKES = (
    recording.RecordingTensorRT,
    recording.Runtime,
    recording.ICudaEngine,
    recording.IRuntimeConfig,
    recording.IRuntimeCache,
    recording.IExecutionContext,
)


@pytest.mark.tensorrt_rtx
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_recording_api_is_the_real_ones(flavour: Flavour) -> None:
    """Every public name that the fake has, with the real arguments' names; of `tensorrt` the lean runtime's."""
    real_module, absent = import_flavour(flavour), set()
    own = {"record", "of", "calls", "fails", "fits", "capturable", "contexts_left"}
    for fake in FAKES:
        real = real_module if fake is RecordingTensorRT else getattr(real_module, fake.__name__, None)
        for name, member in vars(fake).items():
            if name.startswith("_") or name in own:
                continue
            if not hasattr(real, name):
                absent.add(name)
            elif inspect.isfunction(member) and fake is not RecordingTensorRT:
                for argument in list(inspect.signature(member).parameters)[1:]:
                    assert f"{argument}: " in getattr(real, name).__doc__, (name, argument)
    assert absent == NOT_IN[flavour]


def test_tensorrts_plans_need_nothing_that_its_lean_runtime_has_not(folder: Path) -> None:
    module = RecordingTensorRT()
    add_plans(folder, "tensorrt", {"version_compatible": True})
    open_plans(folder, module).runners["text_to_image"](**inputs())
    assert module.calls
    assert not {call[1] for call in module.calls} & NOT_IN["tensorrt"]


@pytest.mark.tensorrt_rtx
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_enumerations_are_the_real_ones(flavour: Flavour) -> None:
    real = import_flavour(flavour)
    assert set(recording.DTYPES.values()) <= set(real.DataType.__members__)
    for fake in (
        recording.TensorIOMode,
        recording.ExecutionContextAllocationStrategy,
        recording.DynamicShapesKernelSpecializationStrategy,
    ):
        if fake.__name__ not in NOT_IN[flavour]:
            assert set(fake.__members__) <= set(getattr(real, fake.__name__).__members__)


def open_recording(folder: Path, **plan: Any) -> RealCompo:
    engines, manifest = load(folder, **plan).engines, read_manifest(folder)
    return RealCompo(manifest, open_tokenizers(folder, manifest), replace(engines, capturable=False))


@pytest.mark.parametrize(("most_rows", "images"), [(8, 4), (5, 2), (1, 1)])
def test_most_images_is_what_plans_take_with_guidance(folder: Path, most_rows: int, images: int) -> None:
    drawing = open_recording(folder, profiles=[[1, 1, most_rows]])
    assert drawing.most_images == images
    if most_rows > 1:
        told = OPTIONS | {"gradient": "surrogate", "num_images": images}
        assert len(drawing(PROMPT, **told).images) == images
        with pytest.raises(RealCompoError, match=f"takes at most {most_rows} rows at once, not {2 * images + 2}"):
            drawing(PROMPT, **told | {"num_images": images + 1})


def test_more_texts_than_a_plan_takes_are_encoded_in_turn(folder: Path, pipe: RealCompo) -> None:
    """Five: two prompts, the empty negative one, and two phrases."""
    drawing = open_recording(folder, profiles=[[1, 1, 4]])
    prompts, told = [PROMPT, f"{PROMPT} and a ring"], OPTIONS | {"gradient": "surrogate"}
    found, wanted = drawing(prompts, **told), pipe(prompts, **told)
    assert (found.stats.calls["text_encoder"], found.stats.rows["text_encoder"]) == (2, 5)
    torch.testing.assert_close(found.latents, wanted.latents, rtol=1e-4, atol=1e-4)
