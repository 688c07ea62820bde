"""Diffusers folders with .bin files: the models are those that the same folders with safetensors give."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from export.checkpoints.folders import Checkpoints, load_attached, load_text_encoder, load_unet, load_vae
from export.checkpoints.pickled_folders import convert_pickled_folders
from export.checkpoints.prepare import prepare
from export.pairs import Control, Lora, Pair
from export.publish import remove_stale
from runtime.errors import RealCompoError
from tests.export.opening import open_checkpoints
from tests.export.test_lora import lora  # noqa: F401

OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def pickle_weights(folder: Path, name: str, *, shards: int = 1, variant: str = "") -> None:
    """Replace a component's safetensors by what torch.save makes of them."""
    (file,) = folder.glob("*.safetensors")
    weights = [*load_file(file).items()]
    file.unlink()
    if shards == 1:
        torch.save(dict(weights), folder / f"{name}{variant}.bin")
        return
    named = {f"{name}-{i}.bin": dict(weights[i::shards]) for i in range(shards)}
    for shard, part in named.items():
        torch.save(part, folder / shard)
    weight_map = {weight: shard for shard, part in named.items() for weight in part}
    (folder / f"{name}.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def assert_same(found: torch.nn.Module, wanted: torch.nn.Module) -> None:
    weights, expected = found.state_dict(), wanted.state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def assert_pair(found: Checkpoints, wanted: Checkpoints) -> None:
    assert_same(load_unet(found.text_to_image), load_unet(wanted.text_to_image))
    assert_same(load_vae(found.text_to_image), load_vae(wanted.text_to_image))
    assert_same(load_text_encoder(found.text_to_image), load_text_encoder(wanted.text_to_image))
    assert_same(load_unet(found.spatial), load_unet(wanted.spatial))


@pytest.mark.parametrize(("shards", "variant"), [(1, ""), (2, ""), (1, ".fp16")], ids=["whole", "shards", "fp16"])
def test_pickles_alone(own_pair: Pair, checkpoints: Checkpoints, tmp_path: Path, shards: int, variant: str) -> None:
    base = Path(own_pair.text_to_image)
    pickle_weights(base / "text_encoder", "pytorch_model", variant=variant)
    for folder in (base / "unet", base / "vae", Path(own_pair.spatial) / "unet"):
        pickle_weights(folder, "diffusion_pytorch_model", shards=shards, variant=variant)
    converted = convert_pickled_folders(own_pair, tmp_path / "converted")
    assert_pair(open_checkpoints(converted.text_to_image, converted.spatial), checkpoints)


def _prefix_text(base: Path) -> None:
    file = base / "text_encoder" / "model.safetensors"
    weights = {f"text_model.{name.removeprefix('text_model.')}": w for name, w in load_file(file).items()}
    save_file(weights | {"text_model.embeddings.position_ids": torch.arange(6)[None]}, file, {"format": "pt"})


def _bare_text(base: Path) -> None:
    file = base / "text_encoder" / "model.safetensors"
    weights = {name.removeprefix("text_model."): w for name, w in load_file(file).items()}
    save_file(weights | {"embeddings.position_ids": torch.arange(6)[None]}, file, {"format": "pt"})


def _old_vae(base: Path) -> None:
    file = base / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    for now, before in OLD_NAMES.items():
        weights = {name.replace(f".{now}.", f".{before}."): weight for name, weight in weights.items()}
    assert any(".proj_attn." in name for name in weights)
    save_file(weights, file, {"format": "pt"})


@pytest.mark.parametrize("pickled", [False, True], ids=["safetensors", "pickle"])
@pytest.mark.parametrize("age", [_prefix_text, _bare_text, _old_vae])
def test_older_names(
    own_pair: Pair, checkpoints: Checkpoints, tmp_path: Path, age: Callable[[Path], None], pickled: bool
) -> None:
    base = Path(own_pair.text_to_image)
    age(base)
    if pickled:
        pickle_weights(base / "text_encoder", "pytorch_model")
        pickle_weights(base / "vae", "diffusion_pytorch_model")
    converted = convert_pickled_folders(own_pair, tmp_path / "converted")
    assert_pair(open_checkpoints(converted.text_to_image, converted.spatial), checkpoints)


def test_safetensors_are_preferred(own_pair: Pair, tmp_path: Path) -> None:
    (Path(own_pair.spatial) / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"no pickle at all")
    assert convert_pickled_folders(own_pair, tmp_path / "converted") == own_pair
    assert not (tmp_path / "converted").exists()


def test_a_controlnet(controlled_pair: Pair, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(controlled_pair.controls[0].model, tmp_path / "control"))
    wanted = open_checkpoints(controlled_pair.text_to_image, controlled_pair.text_to_image, [str(folder)]).attached[0]
    expected = load_attached(wanted)
    pickle_weights(folder, "diffusion_pytorch_model")
    base = controlled_pair.text_to_image
    given = Pair("tiny", base, base, "", "controlnet", (Control("depth", str(folder)),))
    converted = convert_pickled_folders(given, tmp_path / "converted")
    assert (converted.text_to_image, converted.spatial) == (base, base)
    opened = open_checkpoints(base, base, [converted.controls[0].model])
    assert_same(load_attached(opened.attached[0]), expected)


@pytest.mark.parametrize("index", ["{}", '{"weight_map": {"a": "../x.bin"}}', '{"weight_map": {"a": 3}}', "[]"])
def test_damaged_indices(own_pair: Pair, tmp_path: Path, index: str) -> None:
    unet = Path(own_pair.spatial) / "unet"
    (unet / "diffusion_pytorch_model.safetensors").unlink()
    (unet / "diffusion_pytorch_model.bin.index.json").write_text(index)
    with pytest.raises(RealCompoError, match=r"bin\.index\.json is damaged"):
        convert_pickled_folders(own_pair, tmp_path)


def test_what_is_used_is_kept_and_what_is_not_goes(own_pair: Pair, tmp_path: Path) -> None:
    """As at the end of a build."""
    pickle_weights(Path(own_pair.spatial) / "unet", "diffusion_pytorch_model")
    converted = tmp_path / "out" / "converted"
    prepared = prepare(own_pair, tmp_path / "out", False, None, lambda doing: None)
    (place,) = converted.glob("spatial-*")
    assert prepared.pair.spatial == str(place)
    for stale in (f"weights-{'0' * 12}.safetensors", f".weights-{'0' * 12}.safetensors"):
        (converted / stale).write_bytes(b"")
    (converted / f".spatial-{'a' * 12}").mkdir()
    (converted / "notes.txt").write_text("mine")
    remove_stale(tmp_path / "out", (), prepared.used)
    assert {*converted.iterdir()} == {place, converted / "notes.txt"}
    assert load_unet(open_checkpoints(own_pair.text_to_image, str(place)).spatial)  # which has its weights to itself
    assert prepare(own_pair, tmp_path / "out", False, None, lambda doing: None) == prepared


def test_a_pickled_lora(pair: Pair, lora: Path, tmp_path: Path) -> None:  # noqa: F811
    weights = load_file(lora)  # without the file's metadata, which pickles have no place for
    torch.save(weights, tmp_path / "lora.bin")
    save_file(weights, tmp_path / "lora.safetensors")
    fused = [
        prepare(replace(pair, loras=(Lora(str(file), 0.7),)), tmp_path / "out", False, None, lambda doing: None)
        for file in (tmp_path / "lora.safetensors", tmp_path / "lora.bin")
    ]
    stock, found = (open_checkpoints(made.pair.text_to_image, pair.spatial).text_to_image for made in fused)
    assert_same(load_unet(found), load_unet(stock))
    assert len([*(tmp_path / "out" / "converted").iterdir()]) == 1
    torch.save({"a": torch.ones(1)}, tmp_path / "none.bin")
    with pytest.raises(RealCompoError, match=rf"--lora {tmp_path}/none\.bin does not fit"):
        prepare(
            replace(pair, loras=(Lora(str(tmp_path / "none.bin"), 1),)), tmp_path / "x", False, None, lambda doing: None
        )
