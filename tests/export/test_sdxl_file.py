"""SDXL as a single file: written here in the original code's names by a map of our own, and read back."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from export.checkpoints.folders import Checkpoint, load_text_encoder, load_unet, load_vae
from export.checkpoints.random_weights import ARCHITECTURES, Architecture
from export.checkpoints.single_file import convert_single_files
from export.checkpoints.tokenizer import tokenizer_json
from export.pairs import Pair
from tests.export.opening import open_checkpoints
from tests.export.test_pickled_folders import assert_same
from tests.export.test_sdxl import TOKENS, pair  # noqa: F401
from tests.export.test_single_file import Weights, ldm_unet_name, ldm_vae_name

ADDED = {"add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2"}
OPEN_CLIP = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}
OPEN_CLIP_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def unet_weights(base: Checkpoint) -> Weights:
    weights = load_unet(base).state_dict()
    attention = {int(match[1]) for name in weights if (match := re.match(r"up_blocks\.(\d+)\.attentions", name))}

    def named(name: str) -> str:
        part, _, kind = name.rpartition(".")
        return f"{ADDED[part]}.{kind}" if part in ADDED else ldm_unet_name(name, attention)

    return {f"model.diffusion_model.{named(name)}": weight for name, weight in weights.items()}


def vae_weights(base: Checkpoint) -> Weights:
    named = {ldm_vae_name(name, 2): weight for name, weight in load_vae(base).state_dict().items()}
    whole = {name: w[:, :, None, None] if ".attn_1." in name and w.ndim == 2 else w for name, w in named.items()}
    return {f"first_stage_model.{name}": weight for name, weight in whole.items()}


def first_encoder(base: Checkpoint) -> Weights:
    weights = load_text_encoder(base).state_dict()
    prefix = "conditioner.embedders.0.transformer.text_model."
    named = {f"{prefix}{name.removeprefix('text_model.')}": weight for name, weight in weights.items()}
    return named | {f"{prefix}embeddings.position_ids": torch.arange(TOKENS)[None]}


def second_encoder(base: Checkpoint) -> Weights:
    """As open_clip has it: one matrix for query, key and value, and the projection turned."""
    weights = load_text_encoder(base, "text_encoder_2").state_dict()
    bare = {name.removeprefix("text_model."): weight for name, weight in weights.items()}
    turned = {"text_projection": bare.pop("text_projection.weight").T, "logit_scale": torch.ones(())}
    return {
        f"conditioner.embedders.1.model.{name}": weight for name, weight in (turned | open_clip_names(bare)).items()
    }


def open_clip_names(bare: Weights) -> Weights:
    """Of transformers' names without `text_model.`."""
    named: Weights = {}
    for name, weight in bare.items():
        match = re.fullmatch(r"encoder\.layers\.(\d+)\.(.*)\.(weight|bias)", name)
        if match is None:
            named[OPEN_CLIP[name]] = weight
        elif match[2] in OPEN_CLIP_LAYER:
            named[f"transformer.resblocks.{match[1]}.{OPEN_CLIP_LAYER[match[2]]}.{match[3]}"] = weight
        elif match[2] == "self_attn.q_proj":
            parts = [bare[name.replace("q_proj", one)] for one in ("q_proj", "k_proj", "v_proj")]
            named[f"transformer.resblocks.{match[1]}.attn.in_proj_{match[3]}"] = torch.cat(parts)
    return named


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_sdxl_comes_back(
    pair: Pair,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
) -> None:
    base = open_checkpoints(pair.text_to_image, pair.text_to_image, [pair.controls[0].model]).text_to_image
    parts = {
        name: {key: value for key, value in base.config(name).items() if key[0] != "_" and key != "attention_type"}
        for name in ("unet", "vae", "text_encoder", "text_encoder_2")
    }
    monkeypatch.setitem(ARCHITECTURES, "tiny-xl", Architecture(**parts, scheduler={"beta_schedule": "scaled_linear"}))
    whole = unet_weights(base) | vae_weights(base) | first_encoder(base) | second_encoder(base)
    file = tmp_path / f"sdxl{suffix}"
    if suffix == ".ckpt":
        torch.save({"state_dict": whole}, file)
    else:
        save_file({name: weight.contiguous() for name, weight in whole.items()}, file)
    given = Pair("tiny-xl", str(file), str(file), "", "controlnet", pair.controls)
    converted = convert_single_files(given, tmp_path / "out", base.folder / "tokenizer")
    found = open_checkpoints(converted.text_to_image, converted.spatial, [pair.controls[0].model]).text_to_image
    assert_same(load_unet(found), load_unet(base))
    assert_same(load_vae(found), load_vae(base))
    for encoder in ("text_encoder", "text_encoder_2"):
        assert_same(load_text_encoder(found, encoder), load_text_encoder(base, encoder))
    for name in ("tokenizer", "tokenizer_2"):
        assert tokenizer_json(found, TOKENS, name) == tokenizer_json(base, TOKENS, name)
    assert found.zero_negative
