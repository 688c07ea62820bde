"""The command that an error about a bundle prints makes that very bundle again, whatever it was made with."""

import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from export.__main__ import app
from export.build import Options, build
from export.checkpoints.random_weights import ARCHITECTURES
from export.onnx.verify import checkpoints_at_hand
from export.pairs import Pair
from runtime.bundle.manifest import Manifest, check_files, how_to_rebuild, read_manifest, write_manifest
from runtime.errors import RealCompoError
from tests.export.stubs import can_exports, stub_model_optimizer, stub_plans
from tests.export.test_architectures import TINY
from tests.export.test_lora import lora
from tests.export.test_single_file import files, known_architecture, tokenizer

__all__ = ["files", "known_architecture", "lora", "tokenizer"]  # fixtures

BEGINNING = "Build it with: python -m export "


@dataclass(frozen=True)
class Given:
    """What bundles are made of, by paths from the current folder where that is what a user may write."""

    pair: Pair
    controlled: Pair
    files: Pair
    tokenizer: Path
    lora: str

    def own(self, *further: object, pair: str = "tabletop") -> list[object]:
        return ["build", pair, "--text-to-image", self.pair.text_to_image, "--spatial", self.pair.spatial, *further]

    def controlnets(self) -> list[object]:
        given = [word for c in self.controlled.controls for word in ("--spatial", f"{c.kind}={c.model}")]
        return ["build", "tabletop-segmentation", "--text-to-image", self.controlled.text_to_image, *given]

    def single_files(self) -> list[object]:
        models = ["--text-to-image", self.files.text_to_image, "--spatial", self.files.spatial]
        return ["build", "tabletop", *models, "--tokenizer", self.tokenizer]

    def linked_files(self) -> list[object]:
        """As a hub's cache has them: links, whose names are not those of what they point to."""
        Path("blobs").mkdir()
        models = ["--text-to-image", linked(self.files.text_to_image), "--spatial", linked(self.files.spatial)]
        Path("tokenizer").symlink_to(self.tokenizer)
        return ["build", "tabletop", *models, "--tokenizer", "tokenizer", "--lora", f"{linked(self.lora)}@both"]


def linked(file: str) -> Path:
    link, blob = Path(f"linked-{Path(file).name}"), Path("blobs", f"{len(list(Path('blobs').iterdir()))}")
    shutil.copy(file, blob)
    link.symlink_to(blob)
    return link


KINDS: dict[str, Callable[[Given], list[object]]] = {
    "a known pair": lambda given: ["build", "tabletop"],
    "own checkpoints": lambda given: given.own(),
    "LoRAs": lambda given: given.own("--lora", f"{given.lora}:0.25", "--lora", given.lora),
    "sizes and precision": lambda given: given.own("--height", 32, "--width", 16, "--precision", "fp16", "--batch", 2),
    "ControlNets": lambda given: given.controlnets(),
    "single files": lambda given: given.single_files(),
    "single files and LoRAs": lambda given: [*given.single_files(), "--lora", given.lora],
    "files behind links": lambda given: given.linked_files(),
    "random weights": lambda given: ["build", "sd15-gligen", "--random-weights"],
    "forced": lambda given: given.own("--force"),
}
BUILDER = ("--optimization-level", 2, "--refit", "--version-compatible", "--timing-cache", "kernels.cache")
PLANS: dict[str, tuple[object, ...]] = {
    "tensorrt-rtx": ("--compute-capability", "8.9", "--compute-capability", "12.0", "--batch", "1:4:4"),
    "tensorrt": BUILDER,
}


@pytest.fixture
def given(
    pair: Pair,
    controlled_pair: Pair,
    files: Pair,
    tokenizer: Path,
    lora: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Given:
    """The current folder has the LoRA."""
    monkeypatch.setitem(ARCHITECTURES, "tabletop", ARCHITECTURES["tiny"])
    monkeypatch.setitem(ARCHITECTURES, "sd15-gligen", TINY)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    shutil.copy(lora, "a lora.safetensors")
    return Given(pair, controlled_pair, files, tokenizer, "a lora.safetensors")


def export(*arguments: object) -> str:
    """Run a command, and return what it prints on stderr if it fails."""
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code in (0, 2), result.output
    return result.stderr if result.exit_code else ""


def remedy(error: str) -> list[str]:
    """What follows `python -m export` in an error."""
    assert BEGINNING in error, error
    return shlex.split(error.split(BEGINNING)[1])


def damage(folder: Path) -> None:
    engine = list(read_manifest(folder).engines.values())[-1]
    (folder / engine.graph[0].name).write_bytes(b"damaged")


def assert_remedied(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a damaged file and from nothing, and from any folder, the printed command makes the same bundle."""
    before = read_manifest(folder)
    damage(folder)
    command = remedy(export("verify", folder))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert_made(before, folder, command)
    shutil.rmtree(folder)
    assert_made(before, folder, command)


def assert_made(expected: Manifest, folder: Path, command: list[str]) -> None:
    assert export(*command) == ""
    assert read_manifest(folder) == expected
    check_files(folder, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_s_command_makes_it_again(
    bundle: Path,
    given: Given,
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    can_exports(monkeypatch, bundle)
    out = tmp_path / "a bundle"
    assert export(*KINDS[kind](given), "--out", out) == ""
    assert "--force" not in read_manifest(out).command
    assert checkpoints_at_hand(out, read_manifest(out))
    assert_remedied(out, tmp_path, monkeypatch)


@pytest.mark.parametrize("flavour", PLANS)
def test_a_command_makes_plans_again(
    bundle: Path, given: Given, flavour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stubs of them, which say all that they were asked to be."""
    can_exports(monkeypatch, bundle)
    stub_plans(monkeypatch)
    out = tmp_path / "out"
    assert export(*given.own("--backend", flavour, *PLANS[flavour]), "--out", out) == ""
    assert_remedied(out, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.tensorrt_rtx
def test_a_command_makes_real_plans_again(
    bundle: Path, given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install tensorrt-rtx-cu12")
    can_exports(monkeypatch, bundle)
    out = tmp_path / "out"
    arguments = ("--backend", "tensorrt-rtx", "--compute-capability", "8.9", "--batch", 2)
    assert export(*given.own(*arguments), "--out", out) == ""
    before = read_manifest(out)
    damage(out)
    assert export(*remedy(export("verify", out))) == ""
    assert without_plans_bytes(read_manifest(out)) == without_plans_bytes(before)


def without_plans_bytes(manifest: Manifest) -> dict[str, Any]:
    """A plan's builder may choose in another order: all of a manifest but which bytes its plans are."""
    told = manifest.model_dump()
    for engine in told["engines"].values():
        del engine["plan"]["file"]
    return told


def test_a_real_export_makes_the_same_graph(own_bundle: Path, pair: Pair) -> None:
    """Nothing but its cheapest parts."""
    before = build(pair, own_bundle, Options())
    (own_bundle / before.engines["grounding"].graph[0].name).unlink()
    assert build(pair, own_bundle, Options()) == before


@pytest.fixture
def source(bundle: Path, given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle that others are made of, with a LoRA."""
    can_exports(monkeypatch, bundle)
    assert export(*given.own("--lora", given.lora), "--out", tmp_path / "source") == ""
    return tmp_path / "source"


def test_a_widened_bundle_s_command(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_manifest(source, read_manifest(source).model_copy(update={"precision": "bf16"}))
    monkeypatch.chdir(source.parent)
    assert export("widen", "source", "--out", "widened") == ""
    widened = read_manifest(tmp_path / "widened")
    assert widened.command == ("widen", str(source))
    assert checkpoints_at_hand(tmp_path / "widened", widened)
    assert_remedied(tmp_path / "widened", tmp_path, monkeypatch)
    asked = how_to_rebuild(tmp_path / "widened", widened, backend="tensorrt")
    assert asked == f"A widened bundle has graphs alone: build {source} with --backend tensorrt and use that"


def test_a_quantized_bundle_s_command(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub_model_optimizer(monkeypatch)
    layout = tmp_path / "here" / "a layout.json"
    layout.write_text('{"prompt": "a red ball", "regions": [{"phrase": "red ball", "box": [0.1, 0.1, 0.6, 0.6]}]}')
    arguments = ("--mode", "int8", "--layout", layout.name, "--layout", layout, "--steps", 2)
    assert export("quantize", source, "--out", tmp_path / "int8", *arguments) == ""
    quantized = read_manifest(tmp_path / "int8")
    assert {role for role, engine in quantized.engines.items() if engine.quantization} == {"text_to_image", "spatial"}
    assert checkpoints_at_hand(tmp_path / "int8", quantized)
    asked = how_to_rebuild(tmp_path / "int8", quantized, compute_capability="8.9")
    assert asked.startswith(f"Build {source} with --compute-capability 8.9, then this one with: python -m export quan")
    assert_remedied(tmp_path / "int8", tmp_path, monkeypatch)


COMMAND = (
    "build",
    "tabletop",
    "--backend",
    "tensorrt-rtx",
    "--compute-capability",
    "8.0",
    "--compute-capability",
    "8.6",
)
COMMAND += ("--refit", "--batch", "2:2:2", "--lora", "/a b.safetensors:0.5")


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({}, shlex.join(COMMAND[2:])),
        (
            {"compute_capability": "8.9"},
            "--backend tensorrt-rtx --refit --batch 2:2:2 --lora '/a b.safetensors:0.5' --compute-capability 8.9",
        ),
        ({"backend": "tensorrt-rtx"}, shlex.join(COMMAND[2:])),
        ({"backend": "tensorrt"}, "--refit --batch 2:2:2 --lora '/a b.safetensors:0.5' --backend tensorrt"),
        (
            {"batch": "2:2:9"},
            "--backend tensorrt-rtx --compute-capability 8.0 --compute-capability 8.6 --refit "
            "--lora '/a b.safetensors:0.5' --batch 2:2:9",
        ),
    ],
)
def test_what_an_error_asks_for_replaces_what_was_asked(bundle: Path, changes: dict[str, str], options: str) -> None:
    manifest = read_manifest(bundle).model_copy(update={"command": COMMAND})
    sentence = how_to_rebuild(Path("outputs/my bundle"), manifest, **changes)
    assert sentence == f"{BEGINNING}build tabletop --out 'outputs/my bundle' {options}"


def test_random_weights_go_with_no_checkpoints(pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(
        RealCompoError, match=f"no checkpoint of your own: leave {pair.text_to_image}, {pair.spatial} out"
    ):
        build(pair, tmp_path / "out", Options(random_weights=True))
    assert not (tmp_path / "out").exists()
