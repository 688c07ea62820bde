"""A tiny random pair in the shapes of Stable Diffusion 2.1 and its GLIGEN, which share a UNet."""

from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from export.pairs import Pair
from tests.export.conftest import make_vae, open_gates
from tests.export.test_sdxl import TOKENS, WORDS, save_tokenizer

WIDTH, LAYERS = 16, 3
SCHEDULER: dict[str, Any] = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "clip_sample": False,
}
UNET: dict[str, Any] = {  # heads of one width at every level, and matrices instead of convolutions around attention
    "sample_size": 8,
    "block_out_channels": [8, 16],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "cross_attention_dim": WIDTH,
    "attention_head_dim": [2, 4],
    "use_linear_projection": True,
    "norm_num_groups": 4,
}
TEXT: dict[str, Any] = {
    "vocab_size": len(WORDS),
    "hidden_size": WIDTH,
    "intermediate_size": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "max_position_embeddings": TOKENS,
    "hidden_act": "gelu",
    "bos_token_id": WORDS.index("<|startoftext|>"),
    "eos_token_id": WORDS.index("<|endoftext|>"),
}


def save_pair(folder: Path) -> Pair:
    torch.manual_seed(0)
    base = folder / "text_to_image"
    unet, grounded = UNet2DConditionModel(**UNET), UNet2DConditionModel(**UNET, attention_type="gated")
    grounded.load_state_dict(unet.state_dict(), strict=False)
    unet.save_pretrained(base / "unet")
    open_gates(grounded).save_pretrained(folder / "spatial" / "unet")
    make_vae().save_pretrained(base / "vae")
    CLIPTextModel(CLIPTextConfig(**TEXT)).save_pretrained(base / "text_encoder")
    DDIMScheduler(**SCHEDULER).save_pretrained(base / "scheduler")
    save_tokenizer(base / "tokenizer", "!")
    return Pair("tiny-2", str(base), str(folder / "spatial"), "")
