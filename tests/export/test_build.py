"""What is built again and what is not, and what a build that fails leaves behind."""

import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL

import export.build
import export.publish
from export.build import Options, build
from export.engines import engines_of
from export.onnx.verify import verify_bundle
from export.pairs import Pair
from export.plans.plan_options import BuilderOptions
from runtime.bundle.manifest import bundle_files, check_files, engine_files, read_manifest, sha256_of
from runtime.errors import RealCompoError
from runtime.words import Role

CHEAP = ("grounding", "vae_decoder")  # the parts that export in about a second


class Log:
    """A build's report, which interrupts the build when `stop` begins."""

    def __init__(self, stop: Role | None = None):
        self.stop, self.stages, self.details = (
            stop,
            dict.fromkeys(tuple(engines_of("gligen")), ""),
            dict.fromkeys(tuple(engines_of("gligen")), ""),
        )

    def __call__(self, role: Role, stage: str, detail: str = "") -> None:
        self.stages[role] = stage
        self.details[role] += detail
        if role == self.stop:
            raise KeyboardInterrupt

    def built(self) -> set[str]:
        return {role for role, stage in self.stages.items() if stage == "built"}


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def remove_part(folder: Path, role: str) -> None:
    for path in folder.glob(f"{role}-*"):
        path.unlink()


def change_vae(pair: Pair) -> None:
    folder = Path(pair.text_to_image) / "vae"
    vae = AutoencoderKL.from_pretrained(folder)
    torch.nn.init.constant_(vae.decoder.conv_out.bias, 0.25)
    vae.save_pretrained(folder)


def test_nothing_is_built_twice(own_bundle: Path, pair: Pair) -> None:
    before, log = snapshot(own_bundle), Log()
    build(pair, own_bundle, Options(), log)
    assert set(log.stages.values()) == {"kept"}
    assert snapshot(own_bundle) == before


def test_stopped_build_resumes(own_bundle: Path, pair: Pair) -> None:
    whole = snapshot(own_bundle)
    (own_bundle / "manifest.json").unlink()
    for role in CHEAP:
        remove_part(own_bundle, role)
    with pytest.raises(KeyboardInterrupt):
        build(pair, own_bundle, Options(), Log(stop="vae_decoder"))
    with pytest.raises(RealCompoError, match="it has no manifest"):
        read_manifest(own_bundle)
    (own_bundle / ".build").mkdir()  # what a killed build leaves, which has no time to tidy up
    (own_bundle / ".build" / "vae_decoder-000000000000.onnx").write_bytes(b"half")
    log = Log()
    build(pair, own_bundle, Options(), log)
    assert log.built() == {"vae_decoder"}
    assert snapshot(own_bundle).keys() == whole.keys()


def test_a_part_that_is_not_whole_is_built_again(own_bundle: Path, pair: Pair) -> None:
    engine = read_manifest(own_bundle).engines["grounding"]
    (own_bundle / engine.graph[0].name).write_bytes(b"half a file")
    log = Log()
    build(pair, own_bundle, Options(), log)
    assert log.built() == {"grounding"}
    assert log.details["grounding"] == "again, because its files are missing or have changed"
    check_files(own_bundle, read_manifest(own_bundle))


def test_weights_stand_beside_their_graph(own_bundle: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the exporter has written them apart, as it does those of large graphs."""
    before = read_manifest(own_bundle).engines["grounding"].graph
    remove_part(own_bundle, "grounding")
    monkeypatch.setattr("export.onnx.to_onnx.EXTERNAL_DATA_BYTES", 1000)
    manifest = build(pair, own_bundle, Options())
    assert manifest.engines["grounding"].graph[1:] == before[1:]
    graph, data = (own_bundle / file.name for file in manifest.engines["grounding"].graph)
    assert data.name == f"grounding-{sha256_of(data)[:12]}.onnx.data"
    assert data.stat().st_size > 10 * graph.stat().st_size
    assert all(check.errors for check in verify_bundle(own_bundle))
    data.unlink()
    with pytest.raises(RealCompoError, match=r"\.onnx\.data is missing"):
        check_files(own_bundle, manifest)


def test_a_model_and_its_gradient_share_their_weights(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    for model in ("text_to_image", "spatial"):
        forward, gradient = manifest.engines[model].graph, manifest.engines[f"{model}_gradient"].graph
        assert forward[1] in gradient
        own = sum((bundle / file.name).stat().st_size for file in gradient[1:] if file not in forward)
        assert own < 0.2 * (bundle / forward[1].name).stat().st_size
    assert len(bundle_files(manifest)) == len({file.name for file in bundle_files(manifest)})


def test_changed_weights_rebuild_what_uses_them(own_bundle: Path, own_pair: Pair) -> None:
    before = read_manifest(own_bundle)
    (own_bundle / "notes-000000000000.json").write_text("not ours")
    change_vae(own_pair)
    log = Log()
    after = build(own_pair, own_bundle, Options(), log)
    assert log.built() == {"vae_decoder"}
    assert log.details["vae_decoder"] == "again, because weights changed"
    assert after.pair.text_to_image.sha256 != before.pair.text_to_image.sha256
    assert after.pair.spatial.sha256 == before.pair.spatial.sha256
    there = {path.name for path in own_bundle.glob("vae_decoder-*") if path.suffix != ".json"}
    assert there == {file.name for file in engine_files(after.engines["vae_decoder"])}, "those of the old one are gone"
    assert len(list(own_bundle.glob("vae_decoder-*.json"))) == 1
    assert (own_bundle / "notes-000000000000.json").exists()


def test_failed_build_leaves_the_last_good_bundle(
    own_bundle: Path, own_pair: Pair, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(own_bundle)
    change_vae(own_pair)
    monkeypatch.setattr(export.build, "relative_errors", lambda *_: {"images": 2e-4})
    with pytest.raises(RealCompoError, match=r"vae_decoder: images differs from PyTorch by 2.0e-04; at most 1e-04"):
        build(own_pair, own_bundle, Options())
    assert snapshot(own_bundle) == before
    assert {check.role for check in verify_bundle(own_bundle)} == set(engines_of("gligen"))


def test_force_builds_all_and_keeps_the_old_bundle_until_then(own_bundle: Path, pair: Pair) -> None:
    before, log = snapshot(own_bundle), Log(stop="text_to_image")
    with pytest.raises(KeyboardInterrupt):
        build(pair, own_bundle, Options(force=True), log)
    assert log.stages == {
        role: "exporting" if role == "text_to_image" else log.stages[role] for role in tuple(engines_of("gligen"))
    }
    assert "kept" not in log.stages.values()
    assert snapshot(own_bundle) == before


def test_full_disk_is_one_line_and_loses_nothing(
    own_bundle: Path, own_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(own_bundle)
    change_vae(own_pair)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(export.publish, "write_atomically", full)
    with pytest.raises(RealCompoError, match=r"the disk is full: .* needs about \d+ MB, .* are free") as caught:
        build(own_pair, own_bundle, Options())
    assert "\n" not in str(caught.value)
    assert {name: snapshot(own_bundle)[name] for name in before} == before
    check_files(own_bundle, read_manifest(own_bundle))


def test_too_little_space_is_told_before_work_starts(
    tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=1_000_000))
    log = Log()
    with pytest.raises(RealCompoError, match="the disk is full"):
        build(pair, tmp_path / "out", Options(), log)
    assert not any(log.stages.values())


def test_two_builds_do_not_share_a_folder(own_bundle: Path, pair: Pair) -> None:
    def build_again(role: Role, stage: str, detail: str = "") -> None:
        build(pair, own_bundle, Options())

    with pytest.raises(RealCompoError, match="another build is at work"):
        build(pair, own_bundle, Options(), build_again)


def test_checkpoints_in_the_bundles_folder_stay(own_bundle: Path, own_pair: Pair) -> None:
    """As in engines/tabletop, which is both."""
    base = Path(own_pair.text_to_image)
    base = base.rename(own_bundle / base.name)
    spatial = Path(own_pair.spatial).rename(own_bundle / "spatial")
    build(replace(own_pair, text_to_image=str(base), spatial=str(spatial)), own_bundle, Options())
    assert (base / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    assert (spatial / "unet" / "diffusion_pytorch_model.safetensors").is_file()


def test_why_a_part_is_built_again(own_bundle: Path, pair: Pair) -> None:
    """The build stops at the second part that it would build, which is enough to be told of two."""
    log = Log(stop="text_to_image")
    with pytest.raises(KeyboardInterrupt):
        build(pair, own_bundle, Options(height=32), log)
    assert log.details["text_encoder"].startswith(
        "again, because latent shape [4, 8, 8] -> [4, 16, 8], image size [16, 16"
    )
    sidecar = next(own_bundle.glob("text_to_image-*.json"))
    stored = json.loads(sidecar.read_text())
    del stored["depends"]  # as an exporter wrote it that recorded no such thing
    sidecar.write_text(json.dumps(stored | {"key": "0" * 64}))
    log = Log(stop="text_to_image")
    with pytest.raises(KeyboardInterrupt):
        build(pair, own_bundle, Options(), log)
    assert log.details["text_to_image"] == "again, because it is from an older version of the exporter"


def test_too_little_memory_is_told_before_work_starts(
    tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export.build, "available_memory", lambda: 900_000_000)
    monkeypatch.setattr(export.build, "load_graph", lambda *_: pytest.fail("the export has begun"))
    with pytest.raises(
        RealCompoError, match=r"text_encoder: its export takes about 1\.0 GB of memory, 0\.9 GB are available"
    ):
        build(pair, tmp_path / "out", Options())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(batch=(2, 1, 8)), "--batch 2:1:8 is not of the form MIN:OPT:MAX"),
        (Options(backend="tensorrt"), "needs the Python package tensorrt: pip install tensorrt"),
        (Options(compute_capabilities=("8.9",)), "--compute-capability is for --backend tensorrt-rtx"),
        (Options(builder=BuilderOptions(refit=True)), "--refit is for plans; choose --backend tensorrt"),
    ],
)
def test_options_that_cannot_be(tmp_path: Path, pair: Pair, options: Options, message: str) -> None:
    with pytest.raises(RealCompoError, match=message):
        build(pair, tmp_path / "out", options)
    assert not (tmp_path / "out").exists()


def test_unwritable_output(tmp_path: Path, pair: Pair) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RealCompoError, match=r"cannot write to .*file/out: Not a directory"):
        build(pair, tmp_path / "file" / "out", Options())


def test_sidecar_of_another_key_is_not_trusted(own_bundle: Path, pair: Pair) -> None:
    sidecar = next(own_bundle.glob("grounding-*.json"))
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | {"key": "0" * 64}))
    log = Log()
    build(pair, own_bundle, Options(), log)
    assert log.built() == {"grounding"}
