"""What the command lines answer to what is wrong: one line of at most 300 characters, exit code 2, no traceback."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from export.__main__ import app as export_app
from runtime.__main__ import app as runtime_app
from runtime.messages import LONGEST
from tests.export.weight_files import write_file
from tests.export.weight_shapes import LOHA, Shapes, pair, prefixed, unet

LONG = "a-very-long-name-" * 12
LAYERS = [f"lora_unet_down_blocks_{i}_attentions_0_transformer_blocks_0_attn2_to_k" for i in range(500)]


def weights(shapes: Shapes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / LONG).mkdir()
        return write_file(folder / LONG / f"{LONG}.safetensors", shapes)

    return make


def text(name: str, content: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
        return folder / name

    return make


def many_layers(layers: Callable[[str], Shapes]) -> Shapes:
    return {name: shape for layer in LAYERS for name, shape in layers(layer).items()}


REGION = {"phrase": "a ball", "box": [0, 0, 1, 1]}
WRONG_BUNDLE = "bundle/manifest.json"
BUILD, SPATIAL = ("build", "sd15-depth", "--out", "OUT"), ("build", "sd15-gligen", "--out", "OUT")
FILES: dict[str, tuple[tuple[str, ...], Callable[[Path], Path]]] = {
    "a LoHa as ControlNet": ((*BUILD, "--spatial", "FILE"), weights(many_layers(lambda name: prefixed(name, LOHA)))),
    "a LoRA as GLIGEN": ((*SPATIAL, "--spatial", "FILE"), weights(many_layers(lambda name: pair(name, 768)))),
    "a LoRA as model": ((*BUILD, "--text-to-image", "FILE"), weights(many_layers(lambda name: pair(name, 768)))),
    "a UNet as LoRA": ((*BUILD, "--lora", "FILE"), weights(unet(768))),
    "unknown names": ((*BUILD, "--lora", "FILE"), weights({f"{LONG}{i}": (1,) for i in range(50)})),
    "too long a name": (("inspect", "FILE"), weights({LONG * 30: (1,)})),
    "a text as weights": (("inspect", "FILE"), text("page.safetensors", "<html>" * 500)),
    "a pickle": (("inspect", "FILE"), text("model.ckpt", "cos\nsystem\n(S'true'\ntR.")),
    "a text as LoRA": ((*BUILD, "--lora", "FILE"), text("page.safetensors", "<html>" * 500)),
    "a file as bundle": (("inspect", "FILE"), text("notes.txt", "x" * 5000)),
    "a LoRA's scale": ((*BUILD, "--lora", f"FILE:{LONG * 20}"), weights(pair(LAYERS[0], 768))),
}
WORDS: dict[str, tuple[str, ...]] = {
    "a pair": ("build", LONG * 30, "--out", "OUT"),
    "a batch": (*BUILD, "--batch", "1:" * 2000),
    "no LoRA": (*BUILD, "--lora", f"{LONG * 30}.safetensors"),
    "a LoRA's suffix": (*BUILD, "--lora", LONG * 30),
    "no bundle": ("inspect", f"{LONG}/{LONG}/{LONG}"),
    "no weights": ("inspect", f"{LONG}/{LONG}/{LONG}.safetensors"),
    "spatial twice": (*SPATIAL, *("--spatial", LONG) * 40),
    "no kind": (*BUILD, "--spatial", f"{LONG}={LONG}"),
    "too many ControlNets": (*BUILD, *("--spatial", LONG) * 3),
    "no model": (*BUILD, "--text-to-image", f"/{LONG}/{LONG}"),
}
LAYOUTS = {
    "no JSON": "x" * 100_000,
    "deep": "[" * 100_000,
    "an unknown field": json.dumps({"prompt": "a ball", "regions": [{**REGION, LONG * 300: 1}]}),
    "many wrong regions": json.dumps({"prompt": "a ball", "regions": [{"phrase": 3, "box": "x" * 3000}] * 1000}),
    "a long phrase": json.dumps({"prompt": "a ball", "regions": [{"phrase": LONG * 300}]}),
    "no box": json.dumps({"prompt": "a ball", "regions": [{**REGION, "box": list(range(5000))}]}),
}


def check(app: object, arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)  # type: ignore[arg-type]
    assert result.exit_code == 2, result.output
    line = result.stderr
    assert line.startswith("error: ")
    assert len(line) <= LONGEST + 1 or "Build it with: python -m export" in line  # a command is never cut
    assert line.count("\n") == 1
    assert result.stdout.strip() == ""


def filled(arguments: tuple[str, ...], folder: Path, file: Path | str = "") -> list[str]:
    return [word.replace("FILE", str(file)).replace("OUT", str(folder / "out")) for word in arguments]


@pytest.mark.parametrize("case", FILES)
def test_wrong_files(case: str, tmp_path: Path) -> None:
    arguments, make = FILES[case]
    check(export_app, filled(arguments, tmp_path, make(tmp_path)))


@pytest.mark.parametrize("case", WORDS)
def test_wrong_words(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    check(export_app, filled(WORDS[case], tmp_path))


@pytest.mark.parametrize("case", LAYOUTS)
def test_wrong_layouts(case: str, tmp_path: Path) -> None:
    layout = text("layout.json", LAYOUTS[case])(tmp_path)
    check(runtime_app, ["show", str(layout), "--out", str(tmp_path / "picture.png")])
