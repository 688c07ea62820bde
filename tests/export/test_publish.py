"""Names that say what files hold, what is never written over, what goes, and who holds the lock."""

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from socket import gethostname
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import export.onnx.quantize
from export.build import Options, build
from export.onnx.verify import verify_bundle
from export.onnx.widen import runnable_on_cpu, widen_bundle
from export.pairs import Lora, Pair
from export.plans.plan_options import BuilderOptions
from export.publish import publish, store_graph, write_tokenizers
from runtime.bundle.manifest import (
    EngineSpec,
    FileSpec,
    PlanSpec,
    bundle_files,
    check_files,
    read_manifest,
    sha256_of,
    write_atomically,
    write_manifest,
)
from runtime.errors import RealCompoError
from runtime.words import Role
from tests.export.stubs import another_exporter, can_exports, stub_plans, write_marked
from tests.export.test_lora import lora

__all__ = ["lora"]  # a fixture


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_files_are_named_by_what_they_hold(bundle: Path) -> None:
    for role, engine in read_manifest(bundle).engines.items():
        graph, *weights = engine.graph
        assert graph.name == f"{role}-{sha256_of(bundle / graph.name)[:12]}.onnx"
        for file in weights:
            assert re.fullmatch(rf"\w+-{sha256_of(bundle / file.name)[:12]}\.onnx\.data", file.name)
    assert read_manifest(bundle).tokenizer.name == "tokenizer.json"


def saved(path: Path, weights: dict[str, np.ndarray], **options: Any) -> Path:
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "weights", [], [], tensors)), path, **options)
    return path


def weights_of(graph: Path) -> dict[str, np.ndarray]:
    return {weight.name: numpy_helper.to_array(weight) for weight in onnx.load(graph).graph.initializer}


def spec(role: Role, bundle: Path, graph: tuple[FileSpec, ...]) -> EngineSpec:
    return read_manifest(bundle).engines[role].model_copy(update={"graph": graph})


@pytest.mark.parametrize("external", [False, True])
def test_weights_are_stored_once(bundle: Path, tmp_path: Path, external: bool) -> None:
    rng, options = np.random.default_rng(0), {}
    a, b = (rng.normal(size=1000).astype(kind) for kind in (np.float32, np.float16))
    small = np.arange(5)
    forward = {"a": a, "b": b, "again": a, "small": small}
    gradient = {"other name of a": a, "its own": rng.normal(size=300), "small": small}
    if external:
        options = {"save_as_external_data": True, "location": "some.data", "size_threshold": 0}
    files = store_graph("spatial", [saved(tmp_path / "f.onnx", forward, **options), *tmp_path.glob("*.data")])
    engine = spec("spatial", bundle, files)
    graph = [saved(tmp_path / "g.onnx", gradient, **options), *tmp_path.glob("some.data")]
    more = store_graph("spatial_gradient", graph, [engine])
    assert [re.sub("-[0-9a-f]{12}", "", file.name) for file in more] == [
        *("spatial_gradient.onnx", "spatial_gradient.onnx.data", "spatial.onnx.data")
    ]
    assert names(tmp_path) == {file.name for file in (*files, *more)}
    assert all(file.sha256 == sha256_of(tmp_path / file.name) for file in (*files, *more))
    assert (tmp_path / files[1].name).stat().st_size <= a.nbytes + b.nbytes + 64
    assert (tmp_path / more[1].name).stat().st_size == 300 * 8
    for stored, wanted in ((files, forward), (more, gradient)):
        found = weights_of(tmp_path / stored[0].name)
        assert found.keys() == wanted.keys()
        assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


def test_a_graph_that_has_nothing_of_its_own(bundle: Path, tmp_path: Path) -> None:
    weights = {"a": np.arange(1000, dtype=np.float32)}
    first = store_graph("spatial", [saved(tmp_path / "f.onnx", weights)])
    second = store_graph("spatial_gradient", [saved(tmp_path / "g.onnx", weights)], [spec("spatial", bundle, first)])
    assert second[1:] == first[1:]
    assert names(tmp_path) == {file.name for file in (*first, *second)}


@pytest.mark.parametrize("force", [False, True])
def test_nothing_of_the_present_bundle_is_written_over(
    bundle: Path, own_bundle: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    """Looked at whenever a build has something to say, and once more when all parts but the last are published."""
    before = read_manifest(own_bundle)
    inodes = {file.name: (own_bundle / file.name).stat().st_ino for file in bundle_files(before)}
    can_exports(monkeypatch, bundle, mark="new")
    if not force:
        another_exporter(monkeypatch)
    seen: list[str] = []

    def look(role: Role, stage: str, detail: str = "") -> None:
        assert read_manifest(own_bundle) == before
        assert {name: (own_bundle / name).stat().st_ino for name in inodes} == inodes
        check_files(own_bundle, before)
        seen.append(stage)

    after = build(pair, own_bundle, Options(force=force), look)
    assert seen.count("built") == len(before.engines)
    assert not {engine.graph[0].name for engine in after.engines.values()} & inodes.keys()
    assert names(own_bundle) == files_of(own_bundle)


def files_of(folder: Path) -> set[str]:
    """All that a built bundle may have."""
    manifest = read_manifest(folder)
    sidecars = {f"{role}-{engine.key[:12]}.json" for role, engine in manifest.engines.items()}
    return {"manifest.json", *sidecars, *(file.name for file in bundle_files(manifest))}


def test_a_damaged_file_under_a_right_name_is_replaced(
    bundle: Path, own_bundle: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    can_exports(monkeypatch, bundle)
    before = build(pair, own_bundle, Options(force=True))
    files = bundle_files(before)
    whole = {file.name: (own_bundle / file.name).read_bytes() for file in files}
    for file in (files[0], files[-1]):  # the tokenizer, and a graph
        (own_bundle / file.name).write_bytes(b"damaged")
    assert build(pair, own_bundle, Options()) == before
    assert {name: (own_bundle / name).read_bytes() for name in whole} == whole


def test_stale_files_go_and_no_others(own_bundle: Path, pair: Pair) -> None:
    stale = ["spatial-0123456789ab.engine", "spatial-0123456789ab.onnx.data", "controlnet-0123456789ab.json"]
    stale += ["tokenizer-0123456789ab.json", "tokenizer_2.json", ".manifest.json.a1b2c3", ".build/twin.onnx"]
    stale += [f"loras/{name}-0123456789ab/unet/config.json" for name in ("text_to_image", ".text_to_image")]
    stale += ["single-files/spatial-0123456789ab/unet/config.json", "random-weights/text_to_image/unet/config.json"]
    others = ["notes.md", "spatial-notes.json", "my.engine", "unet/config.json", "loras/mine.safetensors", ".hidden"]
    for name in (*stale, *others):
        (own_bundle / name).parent.mkdir(parents=True, exist_ok=True)
        (own_bundle / name).write_text("{}")
    build(pair, own_bundle, Options())
    assert [name for name in stale if (own_bundle / name).exists()] == []
    assert all((own_bundle / name).is_file() for name in others)
    assert not (own_bundle / "single-files").exists() and not (own_bundle / "random-weights").exists()


def test_a_model_in_the_bundle_s_folder_that_is_given_stays(own_bundle: Path, own_pair: Pair) -> None:
    place = own_bundle / "loras" / "text_to_image-0123456789ab"
    place.parent.mkdir()
    Path(own_pair.text_to_image).rename(place)
    build(replace(own_pair, text_to_image=str(place)), own_bundle, Options())
    assert (place / "unet" / "config.json").is_file()


def test_tokenizers_keep_their_plain_names_where_those_are_free(own_bundle: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    present, content = read_manifest(own_bundle), (own_bundle / "tokenizer.json").read_bytes()
    same = write_tokenizers([content, b"second"], scratch, own_bundle)
    assert [file.name for file in same.values()] == ["tokenizer.json", "tokenizer_2.json"]
    other = write_tokenizers([b"{}"], scratch, own_bundle)["tokenizer"]
    assert other == FileSpec(name=f"tokenizer-{other.sha256[:12]}.json", sha256=other.sha256)
    publish(present.model_copy(update={"tokenizer": other}), scratch, own_bundle)
    assert (own_bundle / other.name).read_bytes() == b"{}"
    assert not (own_bundle / "tokenizer.json").exists()
    assert write_tokenizers([b"{}"], scratch, own_bundle)["tokenizer"] == other  # as it is called already


def test_the_lock_says_who_holds_it(own_bundle: Path, pair: Pair, tmp_path: Path) -> None:
    refused: list[str] = []

    def build_again(role: Role, stage: str, detail: str = "") -> None:
        for start in (lambda: build(pair, own_bundle, Options()), lambda: widen_bundle(bf16, own_bundle)):
            with pytest.raises(RealCompoError, match="another build is at work") as error:
                start()
            refused.append(str(error.value))

    bf16 = write_marked(own_bundle, tmp_path / "bf16", "", "bf16")
    before = time.strftime("%H:%M")
    build(pair, own_bundle, Options(batch=(2, 2, 2)), build_again)
    after = time.strftime("%H:%M")
    command = (
        f"`python -m export build tiny --text-to-image {pair.text_to_image} --spatial {pair.spatial} --batch 2:2:2`"
    )
    lines = [
        f"another build is at work in {own_bundle}: process {os.getpid()} since {now}, {command}; "
        "wait for it or choose another --out"
        for now in (before, after)
    ]
    assert len(refused) >= 2 and set(refused) <= set(lines)
    assert not (own_bundle / ".build").exists()


def test_the_lock_s_holder_may_be_elsewhere_or_silent(
    own_bundle: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed = own_bundle / ".build" / "lock.json"

    def build_again(role: Role, stage: str, detail: str = "") -> None:
        monkeypatch.setattr("export.staging.gethostname", lambda: f"not-{gethostname()}")
        with pytest.raises(RealCompoError, match=f"process {os.getpid()} on {gethostname()} since"):
            build(pair, own_bundle, Options())
        signed.write_text("")
        with pytest.raises(RealCompoError, match=r"another build is at work in \S+; wait for it"):
            build(pair, own_bundle, Options())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(pair, own_bundle, Options(), build_again)


def test_the_lock_covers_what_is_prepared(own_bundle: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that finds another at work makes no model beside it."""

    def prepare(*_: Any) -> None:
        monkeypatch.setattr("export.build.prepare", lambda *_: pytest.fail("it is prepared"))
        with pytest.raises(RealCompoError, match="another build is at work"):
            build(pair, own_bundle, Options())
        raise KeyboardInterrupt

    monkeypatch.setattr("export.build.prepare", prepare)
    with pytest.raises(KeyboardInterrupt):
        build(pair, own_bundle, Options())


def test_python_s_build_fuses_loras(
    bundle: Path, own_bundle: Path, pair: Pair, lora: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And records what they were fused from, so that the bundle is verified wherever it stands."""
    can_exports(monkeypatch, bundle)
    monkeypatch.chdir(lora.parent)
    said: list[str] = []
    manifest = build(replace(pair, loras=(Lora(lora.name, 0.5),)), own_bundle, Options(), say=said.append)
    model = manifest.pair.text_to_image
    assert f"fusing LoRAs: {lora.name}" in said
    assert (model.source, manifest.pair.loras[0].source) == (pair.text_to_image, str(lora))
    assert model.prepared and model.prepared.startswith("loras/text_to_image-")
    assert f"--lora {lora}:0.5" in " ".join(manifest.command)
    moved = own_bundle.rename(own_bundle.with_name("moved"))
    with pytest.raises(RealCompoError, match="differs from PyTorch"):  # for the canned graphs have no LoRA
        list(verify_bundle(moved))


def test_loras_that_are_not_there_are_told_before_anything_is_made(pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(RealCompoError, match=r"--lora none\.safetensors: the file does not exist"):
        build(replace(pair, loras=(Lora("none.safetensors", 1.0),)), tmp_path / "out", Options())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("operation", ["chmod", "replace"])
def test_a_write_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no")

    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr(Path, operation, fail)
    with pytest.raises(OSError, match="no"):
        write_atomically(tmp_path / "file", b"new")
    assert names(tmp_path) == {"file"}
    assert (tmp_path / "file").read_bytes() == b"old"


@pytest.mark.parametrize("command", [build, widen_bundle], ids=["build", "widen"])
def test_a_rename_that_fails_leaves_the_bundle(
    own_bundle: Path, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., Any]
) -> None:
    """At the manifest, when all else is published."""
    before, bf16 = read_manifest(own_bundle), write_marked(own_bundle, tmp_path / "bf16", "new", "bf16")
    can_exports(monkeypatch, own_bundle, "new")
    replace_file = Path.replace

    def fail_for_manifest(file: Path, target: Path) -> Path:
        if target.parent == own_bundle and target.name == "manifest.json":
            raise OSError("no")
        return replace_file(file, target)

    monkeypatch.setattr(Path, "replace", fail_for_manifest)
    arguments = (pair, own_bundle, Options(force=True)) if command is build else (bf16, own_bundle)
    with pytest.raises(OSError, match="no"):
        command(*arguments)
    assert read_manifest(own_bundle) == before
    check_files(own_bundle, before)
    assert not [name for name in names(own_bundle) if name.startswith(".")]
    monkeypatch.undo()
    build(pair, own_bundle, Options())
    assert names(own_bundle) == files_of(own_bundle)


def test_verifying_writes_nothing_into_a_bundle(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export.onnx.widen._has_bf16", lambda model: True)
    graph = bundle / read_manifest(bundle).engines["grounding"].graph[0].name
    before = bundle.stat().st_mtime_ns
    with runnable_on_cpu(graph) as widened:
        assert bundle not in widened.parents
    assert bundle.stat().st_mtime_ns == before


def test_a_quantized_plan_has_the_builder_options_of_the_one_before(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = BuilderOptions(optimization_level=1, refit=True, strip_weights=True, version_compatible=True)
    engine = read_manifest(bundle).engines["spatial"]
    plan = PlanSpec(
        file=FileSpec(name="spatial.engine", sha256="0"),
        flavour="tensorrt",
        version="10",
        compute_capabilities=("8.9",),
        flags=asked.flags(),
        profile={"latents": ((1, 4, 8, 8), (2, 4, 8, 8), (8, 4, 8, 8))},
    )
    stub_plans(monkeypatch)
    made = export.onnx.quantize._rebuild_plan(engine, plan, [tmp_path / "spatial.onnx"])
    assert (made.flags, made.profile) == (plan.flags, plan.profile)
    assert made.file.name == f"spatial-{made.file.sha256[:12]}.engine"


def test_an_older_bundle_s_files_are_known_by_its_manifest(own_bundle: Path, tmp_path: Path) -> None:
    """One whose format this version does not read is not written over either."""
    write_manifest(own_bundle, read_manifest(own_bundle).model_copy(update={"format_version": 1}))
    content = json.loads((own_bundle / "manifest.json").read_text())
    del content["command"]
    (own_bundle / "manifest.json").write_text(json.dumps(content))
    assert write_tokenizers([b"{}"], tmp_path, own_bundle)["tokenizer"].name.startswith("tokenizer-")
