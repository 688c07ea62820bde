"""What a bundle is said to be made from: paths from the root in the user's own names, options that are read back."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from export.build import Options
from export.checkpoints.lora_options import parse_loras
from export.onnx import quantize
from export.pairs import Lora, Pair
from export.provenance import absolute, build_command, located
from runtime.bundle.manifest import TARGETS


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """A folder of a hub's cache, whose files are links to blobs."""
    blobs, folder = tmp_path / "blobs", tmp_path / "snapshots" / "0123"
    blobs.mkdir()
    folder.mkdir(parents=True)
    layer = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_q"
    save_file({f"{layer}.lora_{side}.weight": torch.ones(2, 2) for side in ("down", "up")}, blobs / "deadbeef")
    (folder / "style.safetensors").symlink_to("../../blobs/deadbeef")
    return folder


def test_links_keep_their_names(snapshot: Path, pair: Pair) -> None:
    """Of every option that takes a path; the recorded one is taken again."""
    file = str(snapshot / "style.safetensors")
    given = Pair("tiny", file, file, "", loras=(Lora(file, 0.5, "both"),))
    command = build_command(located(given), Options(tokenizer=snapshot, vae=Path(file)))
    words = ("--text-to-image", file, "--spatial", file, "--lora", f"{file}:0.5@both")
    assert command == ("build", "tiny", *words, "--tokenizer", str(snapshot), "--vae", file)
    assert parse_loras([command[7]]) == given.loras
    assert quantize._command(snapshot, "int8", [Path(file)], 20) == (
        *("quantize", str(snapshot), "--mode", "int8", "--layout", file),
    )


def test_paths_are_from_the_root(snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute(Path("snapshots/../blobs")) == tmp_path / "blobs"
    assert absolute(Path("none/../later.cache")) == tmp_path / "later.cache"
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "far" / "blobs").touch()
    Path("link").symlink_to("far/away")
    for asked in ("link/../blobs", "link/../../blobs", "link/../nothing/../blobs"):
        assert not Path(asked).exists() or absolute(Path(asked)).samefile(asked), asked


def test_a_link_that_leads_elsewhere_is_recorded_as_it_is(snapshot: Path, pair: Pair, tmp_path: Path) -> None:
    """The system follows a .. out of a link: without the link's name it would be another file."""
    (tmp_path / "link").symlink_to("snapshots/0123")
    file = tmp_path / "link" / ".." / "0123" / "style.safetensors"
    (lora,) = located(replace(pair, loras=(Lora(str(file), 1.0),))).loras
    assert Path(lora.file).samefile(snapshot / "style.safetensors")


NAMES = st.text("ab0.5@:=- é", min_size=1, max_size=12).map(lambda name: f"/{name}.safetensors")
FOLDERS = st.lists(st.text("ab.5@:=", min_size=1, max_size=6) | st.sampled_from(["me@host:dir", "x@both", "a:0.5"]))


@given(NAMES, FOLDERS, st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(TARGETS))
def test_every_lora_is_read_back(name: str, folders: list[str], scale: float, into: str) -> None:
    """Whatever @ and : its path has."""
    lora = Lora(f"/{'/'.join(folders)}{name}", scale, into)  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("export.checkpoints.lora_options.check_lora", lambda lora: None)
        assert parse_loras([lora.words]) == (lora,)
        if (scale, into) == (1.0, "text_to_image"):
            assert parse_loras([lora.file]) == (lora,)
