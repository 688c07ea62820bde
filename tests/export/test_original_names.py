"""GLIGEN's files, text encoders and VAEs in all the names that single files have them in."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from export.checkpoints.folders import Checkpoints, load_text_encoder, load_unet, load_vae
from export.checkpoints.single_file import convert_single_files
from export.pairs import Pair
from export.spatial import share_unet
from runtime.errors import RealCompoError
from tests.export.opening import open_checkpoints
from tests.export.test_pickled_folders import OLD_NAMES, assert_same
from tests.export.test_single_file import (  # noqa: F401
    Weights,
    known_architecture,
    ldm_text_encoder,
    ldm_unet,
    ldm_vae,
)


def bare(weights: Weights, prefix: str) -> Weights:
    return {name.removeprefix(prefix): weight for name, weight in weights.items()}


@pytest.fixture
def clip(pair: Pair) -> Path:
    return Path(pair.text_to_image) / "tokenizer"


@pytest.fixture(scope="module")
def gligen(checkpoints: Checkpoints) -> dict[str, Weights]:
    """GLIGEN's original dictionary."""
    return {
        "model": bare(ldm_unet(checkpoints, "spatial"), "model.diffusion_model."),
        "autoencoder": bare(ldm_vae(checkpoints), "first_stage_model."),
        "text_encoder": bare(ldm_text_encoder(checkpoints), "cond_stage_model."),
        "diffusion": {"betas": torch.ones(3)},
    }


def write(content: dict, file: Path) -> Path:
    if file.suffix == ".safetensors":
        flat = {
            f"{group}.{name}" if isinstance(found, dict) else group: weight.contiguous()
            for group, found in content.items()
            for name, weight in (found.items() if isinstance(found, dict) else [("", found)])
        }
        save_file(flat, file)
    else:
        torch.save(content, file)
    return file


def convert(base: str, spatial: str, out: Path, tokenizer: Path | None = None, vae: Path | None = None) -> Checkpoints:
    converted = convert_single_files(Pair("tiny", base, spatial, ""), out, tokenizer, vae=vae)
    return open_checkpoints(converted.text_to_image, converted.spatial)


def is_own(name: str) -> bool:
    return ".fuser." in name or name.startswith("position_net.")


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
@pytest.mark.parametrize("form", ["dictionary", "without a prefix", "state_dict"])
def test_gligen_in_its_authors_names(
    gligen: dict[str, Weights], pair: Pair, checkpoints: Checkpoints, tmp_path: Path, form: str, suffix: str
) -> None:
    pickled_alone = {"config_dict": {"model": {"target": "ldm.Net"}}} if suffix == ".bin" else {}
    forms = {
        "dictionary": gligen | pickled_alone,
        "without a prefix": gligen["model"],
        "state_dict": {"state_dict": gligen["model"]} if suffix == ".bin" else {"model": gligen["model"]},
    }
    opened = convert(pair.text_to_image, str(write(forms[form], tmp_path / f"gligen{suffix}")), tmp_path / "out")
    assert_same(load_unet(opened.spatial), load_unet(checkpoints.spatial))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("names", ["original", "diffusers"])
def test_gligens_layers_alone_are_joined_with_the_base(
    gligen: dict[str, Weights], pair: Pair, checkpoints: Checkpoints, tmp_path: Path, names: str, suffix: str
) -> None:
    base, whole = load_unet(checkpoints.text_to_image).state_dict(), load_unet(checkpoints.spatial).state_dict()
    layers = {name: w for name, w in (gligen["model"] if names == "original" else whole).items() if is_own(name)}
    opened = convert(pair.text_to_image, str(write(layers, tmp_path / f"layers{suffix}")), tmp_path / "out")
    found = load_unet(opened.spatial).state_dict()
    assert found.keys() == whole.keys()
    assert all(torch.equal(weight, whole[name] if is_own(name) else base[name]) for name, weight in found.items())
    assert share_unet(opened)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda name: None if name.endswith("fuser.norm2.weight") else name, "its unet lacks weights, 4 of them"),
        (lambda name: name.replace("null_xyxy", "x"), None),
        (lambda name: name.replace("fuser.linear", "fuser.lin"), "lacks weights"),
    ],
)
def test_layers_that_do_not_fit(gligen: dict, pair: Pair, tmp_path: Path, change, message: str | None) -> None:
    layers = {named: w for name, w in gligen["model"].items() if is_own(name) and (named := change(name))}
    file = write(layers, tmp_path / "layers.safetensors")
    if message:
        with pytest.raises(RealCompoError, match=message):
            convert(pair.text_to_image, str(file), tmp_path / "out")


def test_unknown_weights_are_not_dropped(gligen: dict[str, Weights], pair: Pair, tmp_path: Path) -> None:
    file = write(gligen["model"] | {"adapter.weight": torch.ones(2)}, tmp_path / "gligen.safetensors")
    with pytest.raises(RealCompoError, match=r"its unet has unknown weights, 1 of them, such as adapter\.weight"):
        convert(pair.text_to_image, str(file), tmp_path / "out")


@pytest.mark.parametrize("prefix", ["cond_stage_model.transformer.", "cond_stage_model.", "text_encoder.transformer."])
@pytest.mark.parametrize("nested", ["text_model.", ""])
def test_text_encoders(
    pair: Pair,
    checkpoints: Checkpoints,
    clip: Path,
    tmp_path: Path,
    prefix: str,
    nested: str,
) -> None:
    text = {
        name.replace("cond_stage_model.transformer.text_model.", prefix + nested): weight
        for name, weight in ldm_text_encoder(checkpoints).items()
    }
    whole = ldm_unet(checkpoints, "text_to_image") | ldm_vae(checkpoints) | text
    file = write(whole, tmp_path / "whole.safetensors")
    opened = convert(str(file), pair.spatial, tmp_path / "out", clip)
    assert_same(load_text_encoder(opened.text_to_image), load_text_encoder(checkpoints.text_to_image))


def old_names(weights: Weights) -> Weights:
    for now, before in OLD_NAMES.items():
        weights = {name.replace(f".{now}.", f".{before}."): weight for name, weight in weights.items()}
    return weights


@pytest.mark.parametrize("form", ["folder", "repository", "diffusers", "old names", "original", "with a prefix"])
def test_a_vae_of_its_own(
    pair: Pair,
    checkpoints: Checkpoints,
    clip: Path,
    tmp_path: Path,
    form: str,
) -> None:
    today, original = load_vae(checkpoints.text_to_image).state_dict(), ldm_vae(checkpoints)
    forms = {
        "diffusers": today,
        "old names": old_names(today),
        "original": {"state_dict": bare(original, "first_stage_model.") | {"loss.logvar": torch.ones(())}},
        "with a prefix": original,
    }
    places = {"folder": Path(pair.text_to_image) / "vae", "repository": Path(pair.text_to_image)}
    vae = places[form] if form in places else write(forms[form], tmp_path / "vae.pt")
    without = ldm_unet(checkpoints, "text_to_image") | ldm_text_encoder(checkpoints)
    file = write(without, tmp_path / "whole.safetensors")
    with pytest.raises(RealCompoError, match=r"whole\.safetensors holds no VAE. Give one with --vae FILE_OR_DIR"):
        convert(str(file), pair.spatial, tmp_path / "none", clip)
    opened = convert(str(file), pair.spatial, tmp_path / "out", clip, vae)
    assert_same(load_vae(opened.text_to_image), load_vae(checkpoints.text_to_image))


def test_vae_options_that_fit_nothing(checkpoints: Checkpoints, pair: Pair, clip: Path, tmp_path: Path) -> None:
    with pytest.raises(RealCompoError, match="--vae x goes with a single file as --text-to-image"):
        convert(pair.text_to_image, pair.spatial, tmp_path, vae=Path("x"))
    file = write(ldm_unet(checkpoints, "text_to_image") | ldm_text_encoder(checkpoints), tmp_path / "a.safetensors")
    with pytest.raises(RealCompoError, match="is no file of weights, and no folder with"):
        convert(str(file), pair.spatial, tmp_path / "out", clip, tmp_path / "no")
