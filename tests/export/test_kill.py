"""Commands that are killed at any moment, over a bundle that is there: it stays whole, the old one or the new one, and
the next command makes it the new one and leaves nothing else.

Exports and Model Optimizer are stubs, so that the kills fall on the publishing. The processes are forked from a server
that has imported everything.
"""

import multiprocessing
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
import torch

import export.onnx.quantize
from export.build import Options, build
from export.onnx.quantize import Seen, quantize_bundle, record
from export.onnx.widen import widen_bundle
from export.pairs import Pair
from runtime import Layout, RealCompo, Region
from runtime.bundle.manifest import check_files, read_manifest
from tests.export.stubs import another_exporter, can_exports, stub_model_optimizer, write_marked

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["tests.export.test_kill"])
LAYOUT = Layout([Region("red ball", box=(0.1, 0.1, 0.6, 0.6))])
SEED = 20240218
COMMANDS = ("build", "force", "widen", "quantize")


@dataclass(frozen=True)
class Scene:
    """A command, what it works on, and the bundle that it finds in `out`."""

    command: str
    pair: Pair
    source: Path
    out: Path
    layout: Path
    seen: dict[str, Seen]


def run(scene: Scene, patch: pytest.MonkeyPatch, mark: str = "new") -> None:
    RUN[scene.command](scene, patch, mark)


def _build(scene: Scene, patch: pytest.MonkeyPatch, mark: str) -> None:
    """The new one is a newer exporter's."""
    if mark == "new":
        another_exporter(patch)
    can_exports(patch, scene.source, mark)
    build(scene.pair, scene.out, Options())


def _force(scene: Scene, patch: pytest.MonkeyPatch, mark: str) -> None:
    can_exports(patch, scene.source, mark)
    build(scene.pair, scene.out, Options(force=True))


def _widen(scene: Scene, patch: pytest.MonkeyPatch, mark: str) -> None:
    widen_bundle(scene.source.with_name(f"bf16-{mark}"), scene.out)


def _quantize(scene: Scene, patch: pytest.MonkeyPatch, mark: str) -> None:
    stub_model_optimizer(patch)
    patch.setattr(export.onnx.quantize, "record", lambda *_: scene.seen)
    quantize_bundle(scene.source.with_name(f"fp32-{mark}"), scene.out, "int8", [scene.layout])


RUN: dict[str, Callable[[Scene, pytest.MonkeyPatch, str], None]] = {
    "build": _build,
    "force": _force,
    "widen": _widen,
    "quantize": _quantize,
}


@pytest.fixture(scope="module")
def scenes(bundle: Path, pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scene]:
    """Each with the bundle that the command makes of unmarked graphs."""
    folder = tmp_path_factory.mktemp("kill")
    source = Path(shutil.copytree(bundle, folder / "source"))
    for mark in ("old", "new"):
        write_marked(source, folder / f"bf16-{mark}", mark, "bf16")
        write_marked(source, folder / f"fp32-{mark}", mark, "fp32")
    layout = folder / "layout.json"
    layout.write_text('{"prompt": "a red ball", "regions": [{"phrase": "red ball", "box": [0.1, 0.1, 0.6, 0.6]}]}')
    seen = record(source, read_manifest(source), [layout], 1, 0)
    made = {}
    for command in COMMANDS:
        made[command] = Scene(command, pair, source, folder / command, layout, seen)
        with pytest.MonkeyPatch.context() as patch:
            run(made[command], patch, "old")
    return made


@dataclass(frozen=True)
class Ends:
    """The bundle before and after, as manifests and file names, and how long it takes to get there in seconds."""

    old: bytes
    new: bytes
    names: set[str]
    seconds: float


def in_process(scene: Scene, begun: Event) -> None:
    torch.set_num_threads(1)
    begun.set()
    run(scene, pytest.MonkeyPatch())


def start(scene: Scene) -> multiprocessing.process.BaseProcess:
    """A process that has begun the command."""
    begun = FORKED.Event()
    process = FORKED.Process(target=in_process, args=(scene, begun))
    process.start()
    assert begun.wait(300)
    return process


def measured(scene: Scene) -> Ends:
    """A whole run."""
    old = manifest_of(scene)
    process, began = start(scene), time.monotonic()
    process.join()
    assert process.exitcode == 0
    return Ends(old, manifest_of(scene), names(scene), time.monotonic() - began)


def manifest_of(scene: Scene) -> bytes:
    return (scene.out / "manifest.json").read_bytes()


def names(scene: Scene) -> set[str]:
    return {str(path.relative_to(scene.out)) for path in scene.out.rglob("*")}


def assert_whole(folder: Path) -> None:
    check_files(folder, read_manifest(folder))
    drawn = RealCompo.load(folder)("a red ball", layout=LAYOUT, steps=1)
    assert drawn.latents.isfinite().all()


def kill_at_random(scene: Scene, times: int, tmp_path: Path) -> int:
    """Returns how often it was in time."""
    before = Path(shutil.copytree(scene.out, tmp_path / "before"))
    ends, moments = measured(scene), random.Random(f"{SEED} {scene.command}")
    killed = 0
    assert ends.old != ends.new
    for _ in range(times):
        shutil.rmtree(scene.out)
        shutil.copytree(before, scene.out)
        process = start(scene)
        process.join(moments.random() * ends.seconds)
        process.kill()
        process.join()
        killed += process.exitcode != 0
        assert manifest_of(scene) in (ends.old, ends.new)
        assert_whole(scene.out)
        again = start(scene)
        again.join()
        assert again.exitcode == 0
        assert (manifest_of(scene), names(scene)) == (ends.new, ends.names)
        check_files(scene.out, read_manifest(scene.out))
    return killed


@pytest.mark.parametrize("command", COMMANDS)
def test_a_kill_leaves_a_whole_bundle(scenes: dict[str, Scene], command: str, tmp_path: Path) -> None:
    kill_at_random(scene_of(scenes, command, tmp_path), 2, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_sixty_kills_leave_whole_bundles(scenes: dict[str, Scene], command: str, tmp_path: Path) -> None:
    assert kill_at_random(scene_of(scenes, command, tmp_path), 15, tmp_path) > 5


def scene_of(scenes: dict[str, Scene], command: str, tmp_path: Path) -> Scene:
    """With a copy of its bundle."""
    scene = scenes[command]
    return replace(scene, out=Path(shutil.copytree(scene.out, tmp_path / "out")))
