"""Checkpoints that are incomplete, damaged or of another kind are answered with one clear line."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import CLIPTokenizer

from export.checkpoints.folders import Checkpoint, Checkpoints, load_unet
from export.checkpoints.tokenizer import tokenizer_json
from export.pairs import PAIRS, Control, Pair
from export.spatial import find_pair
from runtime.errors import RealCompoError
from tests.export.opening import open_checkpoints


def open_pair(pair: Pair) -> Checkpoints:
    return open_checkpoints(pair.text_to_image, pair.spatial)


def edit(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_known_pairs_and_overrides() -> None:
    assert find_pair("tabletop", spatial=["elsewhere"]).spatial == "elsewhere"
    assert find_pair("tabletop", spatial=["elsewhere"]).text_to_image == PAIRS["tabletop"].text_to_image
    with pytest.raises(RealCompoError, match="unknown pair 'table'; known pairs: tabletop, tabletop-segmentation"):
        find_pair("table")
    with pytest.raises(RealCompoError, match="--spatial is given 2 times; tabletop has GLIGEN as spatial model"):
        find_pair("tabletop", spatial=["a", "b"])


def test_controlnets_are_over_the_text_to_image_model_and_of_a_kind() -> None:
    assert find_pair("sd15-seg").spatial == find_pair("sd15-seg").text_to_image
    own = find_pair("sd15-seg", text_to_image="mine", spatial=["a", "depth=b"])
    assert (own.text_to_image, own.spatial) == ("mine", "mine")
    assert own.controls == (Control("segmentation", "a"), Control("depth", "b"))
    with pytest.raises(RealCompoError, match=r"--spatial b: .* 1 ControlNet, so say .*: --spatial KIND=b, KIND being"):
        find_pair("sd15-seg", spatial=["a", "b"])


@pytest.mark.parametrize("given", ["foo=b", "depth:fat=b", "depth=", "=b"])
def test_what_is_no_kind_is_told_the_kinds(given: str) -> None:
    with pytest.raises(RealCompoError, match=f"--spatial {given} is not KIND=MODEL .* depth, .* PEN thin or thick"):
        find_pair("sd15-seg", spatial=[given])


def test_a_folder_whose_name_has_an_equals_sign(tmp_path: Path) -> None:
    (folder := tmp_path / "foo=b").mkdir()
    assert find_pair("sd15-seg", spatial=[str(folder)]).controls == (Control("segmentation", str(folder)),)


@pytest.mark.parametrize(
    ("file", "option"),
    [
        ("text_to_image/unet/config.json", "--text-to-image"),
        ("text_to_image/vae/diffusion_pytorch_model.safetensors", "--text-to-image"),
        ("text_to_image/text_encoder/model.safetensors", "--text-to-image"),
        ("text_to_image/scheduler/scheduler_config.json", "--text-to-image"),
        ("spatial/unet/diffusion_pytorch_model.safetensors", "--spatial"),
    ],
)
def test_missing_file_is_named(own_pair: Pair, file: str, option: str) -> None:
    path = Path(own_pair.spatial).parent / file
    path.unlink()
    with pytest.raises(RealCompoError) as caught:
        open_pair(own_pair)
    assert f"{path} is missing" in str(caught.value)
    assert f"Give a diffusers folder with {option} DIR" in str(caught.value)


def test_pickled_weights_are_not_opened_where_they_lie(own_pair: Pair) -> None:
    weights = Path(own_pair.spatial) / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(RealCompoError, match=r"model\.safetensors is missing"):
        open_pair(own_pair)


def test_missing_folder_and_missing_hub(own_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        RealCompoError, match=r"the folder /nowhere/at/all of the spatial model does not exist.*--spatial"
    ):
        open_checkpoints(own_pair.text_to_image, "/nowhere/at/all")
    with pytest.raises(RealCompoError, match=r"nobody/nothing .* is not in the hub's cache.*--text-to-image DIR"):
        open_checkpoints("nobody/nothing", own_pair.spatial, download=False)


@pytest.mark.parametrize(
    ("file", "fields", "message"),
    [
        ("text_to_image/unet/config.json", {"in_channels": 9}, "its in_channels is 9, not 4"),
        ("text_to_image/unet/config.json", {"_class_name": "SD3Transformer2DModel"}, '_class_name is "SD3Trans'),
        ("text_to_image/unet/config.json", {"addition_embed_type": "image"}, 'addition_embed_type is "image"'),
        ("text_to_image/unet/config.json", {"cross_attention_dim": 32}, "its cross_attention_dim is 32, not 16"),
        ("spatial/unet/config.json", {"attention_type": "default"}, 'its attention_type is "default", not "gated"'),
        ("spatial/unet/config.json", {"sample_size": 64}, "its sample_size is 64, not 8"),
        ("text_to_image/vae/config.json", {"latent_channels": 16}, "its latent_channels is 16, not 4"),
        ("text_to_image/text_encoder/config.json", {"model_type": "t5"}, 'its model_type is "t5"'),
        ("text_to_image/scheduler/scheduler_config.json", {"prediction_type": "sample"}, 'prediction_type is "sample"'),
    ],
)
def test_unsupported_architecture_is_named_with_what_is(
    own_pair: Pair, file: str, fields: dict[str, Any], message: str
) -> None:
    edit(Path(own_pair.spatial).parent / file, **fields)
    with pytest.raises(RealCompoError) as caught:
        open_pair(own_pair)
    assert message in str(caught.value)
    assert "Supported are pairs shaped like Stable Diffusion 1.x, 2.x and SDXL" in str(caught.value)


def test_gligen_of_texts_and_images_is_refused_by_name(own_pair: Pair) -> None:
    edit(Path(own_pair.spatial) / "unet" / "config.json", attention_type="gated-text-image")
    with pytest.raises(
        RealCompoError, match=r"unet is a GLIGEN of texts and images, which is not supported: .* gated$"
    ):
        open_pair(own_pair)


def test_models_of_two_families_are_refused_with_both_names(own_pair: Pair) -> None:
    edit(Path(own_pair.spatial) / "unet" / "config.json", use_linear_projection=True)
    with pytest.raises(RealCompoError) as caught:
        open_pair(own_pair)
    assert str(caught.value) == (
        f"{own_pair.spatial} is made for Stable Diffusion 2.x, and the text-to-image model {own_pair.text_to_image} is "
        "Stable Diffusion 1.x: a pair is of one family. Replace one of them, with --spatial or --text-to-image"
    )


@pytest.fixture
def own_controlnet(controlled_pair: Pair, tmp_path: Path) -> Path:
    """A copy of a ControlNet that a test may damage."""
    return Path(shutil.copytree(controlled_pair.controls[0].model, tmp_path / "controlnet"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"_class_name": "UNet2DConditionModel"}, 'its _class_name is "UNet2DConditionModel", not "ControlNetModel"'),
        ({"cross_attention_dim": 32}, "its cross_attention_dim is 32, not 16"),
        ({"block_out_channels": [8, 8]}, r"its block_out_channels is \[8, 8\], not \[8, 16\]"),
        ({"controlnet_conditioning_channel_order": "bgr"}, 'channel_order is "bgr", not "rgb"'),
        ({"conditioning_embedding_out_channels": [4, 8, 8]}, "conditioning_embedding_out_channels is 3, not 2"),
    ],
)
def test_unsupported_controlnets(pair: Pair, own_controlnet: Path, fields: dict[str, Any], message: str) -> None:
    edit(own_controlnet / "config.json", **fields)
    with pytest.raises(RealCompoError, match=message) as caught:
        open_checkpoints(pair.text_to_image, pair.text_to_image, [str(own_controlnet)])
    assert f"{own_controlnet} is not supported as spatial model" in str(caught.value)


def test_missing_controlnet_files_are_named(pair: Pair, own_controlnet: Path) -> None:
    (own_controlnet / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(RealCompoError, match=r"controlnet/diffusion_pytorch_model\.safetensors is missing.*--spatial"):
        open_checkpoints(pair.text_to_image, pair.text_to_image, [str(own_controlnet)])


def test_damaged_files(own_pair: Pair) -> None:
    unet = Path(own_pair.spatial) / "unet"
    weights = unet / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    save_file({name: tensor for name, tensor in tensors.items() if name != "conv_in.bias"}, weights, {"format": "pt"})
    with pytest.raises(RealCompoError, match=r"lacks 1 weights of its architecture, among them conv_in\.bias"):
        load_unet(open_pair(own_pair).spatial)
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(RealCompoError, match="cannot be loaded"):
        load_unet(open_pair(own_pair).spatial)
    (unet / "config.json").write_text("{")
    with pytest.raises(RealCompoError, match=r"config\.json is damaged"):
        open_pair(own_pair)


def test_half_precision_shards_and_variants_load_as_fp32(own_pair: Pair) -> None:
    unet = Path(own_pair.spatial) / "unet"
    stock = UNet2DConditionModel.from_pretrained(unet, torch_dtype=torch.float32)
    whole = (unet / "diffusion_pytorch_model.safetensors").rename(unet / "diffusion_pytorch_model.fp16.safetensors")
    _same(load_unet(open_pair(own_pair).spatial), stock)
    whole.unlink()
    stock.save_pretrained(unet, max_shard_size="50KB")
    assert len(open_pair(own_pair).spatial.weights("unet")[1]) > 1
    _same(load_unet(open_pair(own_pair).spatial), stock)


def _same(unet: UNet2DConditionModel, expected: UNet2DConditionModel) -> None:
    for name, weight in expected.state_dict().items():
        assert unet.state_dict()[name].dtype == torch.float32
        assert torch.equal(unet.state_dict()[name], weight)


def test_fp32_size_is_that_of_the_weights(pair: Pair) -> None:
    spatial = open_pair(pair).spatial
    unet = load_unet(spatial)
    assert spatial.fp32_bytes("unet", ("",)) == 4 * sum(weight.numel() for weight in unet.parameters())
    grounding = sum(weight.numel() for weight in unet.position_net.parameters())
    assert spatial.fp32_bytes("unet", ("position_net.",)) == 4 * grounding


def test_slow_clip_tokenizer_becomes_tokenizer_json(tmp_path: Path) -> None:
    """Stable Diffusion's own folders hold a vocabulary and merges, and no tokenizer.json."""
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    words = ["r", "e", "d</w>", "a</w>", "re", "red</w>", "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\nr e\nre d</w>\n")
    pad = {"__type": "AddedToken", "content": "<|endoftext|>", "lstrip": False, "rstrip": False, "special": True}
    pad |= {"single_word": False, "normalized": True}
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": pad}))
    made = Tokenizer.from_str(tokenizer_json(Checkpoint("text_to_image", "x", None, tmp_path), 8).decode())
    stock = CLIPTokenizer.from_pretrained(folder)
    for prompt in ("a red", "a red a red a red a red a red"):
        expected = stock(prompt, padding="max_length", max_length=8, truncation=True).input_ids
        assert made.encode(prompt).ids == expected


def test_missing_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(RealCompoError, match=r"vocab\.json is missing"):
        tokenizer_json(Checkpoint("text_to_image", "x", None, tmp_path), 8)
