"""Fused LoRAs against PEFT's own modules beside the weights, of every kind that PEFT has."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from peft import LoHaConfig, LoKrConfig, LoraConfig, inject_adapter_in_model
from peft.utils import get_peft_model_state_dict
from torch import Tensor

from export.checkpoints.lora_names import layer_names
from export.checkpoints.original_layers import original_names
from export.checkpoints.random_weights import ARCHITECTURES
from export.pairs import Pair
from tests.export.test_lora import stock
from tests.export.test_lora_kinds import fuse

LAYERS = ["to_q", "to_out.0", "conv1", "proj_in"]
ALPHA, RANK, STRENGTH = 6, 2, 0.7
CONFIGS: dict[str, Callable[[], Any]] = {
    "LoRA": lambda: LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=LAYERS),
    "LoRA of another scaling": lambda: LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=LAYERS, use_rslora=True),
    "LoRA with biases": lambda: LoraConfig(
        r=RANK, lora_alpha=ALPHA, target_modules=["to_out.0", "conv1"], lora_bias=True
    ),
    "DoRA": lambda: LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=LAYERS, use_dora=True),
    "LoHa": lambda: LoHaConfig(r=RANK, alpha=ALPHA, target_modules=LAYERS),
    "LoHa with cores": lambda: LoHaConfig(r=RANK, alpha=ALPHA, target_modules=LAYERS, use_effective_conv2d=True),
    "LoKr": lambda: LoKrConfig(r=1, alpha=ALPHA, target_modules=LAYERS),
    "LoKr, both decomposed": lambda: LoKrConfig(r=1, alpha=ALPHA, target_modules=LAYERS, decompose_both=True),
    "LoKr with cores": lambda: LoKrConfig(r=1, alpha=ALPHA, target_modules=LAYERS, use_effective_conv2d=True),
}


@torch.no_grad()
def adapted(unet: Any, config: Any) -> dict[str, Tensor]:
    """Give a UNet random adapters at the strength, and return their tensors."""
    torch.manual_seed(3)
    inject_adapter_in_model(config, unet)
    for name, weight in unet.named_parameters():
        if any(piece in name for piece in ("lora_A", "lora_B", "hada_", "lokr_")):
            torch.nn.init.normal_(weight, std=0.3)
    for module in unet.modules():
        if isinstance(scaling := getattr(module, "scaling", None), dict) and "default" in scaling:
            scaling["default"] *= STRENGTH
    return {name: weight.contiguous() for name, weight in get_peft_model_state_dict(unet).items()}


def predicted(unet: Any) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 4, 8, 8, generator=generator)
    with torch.no_grad():
        prediction: Tensor = unet(latents, 500, torch.randn(1, 6, 16, generator=generator)).sample
    return prediction


@pytest.mark.parametrize("kind", CONFIGS)
def test_fused_as_peft_has_it_beside(pair: Pair, kind: str, tmp_path: Path) -> None:
    beside = stock(pair).unet
    plain = predicted(beside)
    tensors = {f"unet.{name}": weight for name, weight in adapted(beside, CONFIGS[kind]()).items()}
    alpha = torch.tensor(float(ALPHA) * (RANK**0.5 if "scaling" in kind else 1))
    layers = {
        name.partition(f".{piece}")[0] for name in tensors for piece in ("lora_", "hada_", "lokr_") if piece in name
    }
    layers = {layer for layer in layers if not layer.endswith(".weight")}
    found = fuse(pair, tensors | {f"{layer}.alpha": alpha.clone() for layer in layers}, tmp_path, STRENGTH)
    wanted = predicted(beside)
    torch.testing.assert_close(predicted(stock(found).unet), wanted, rtol=1e-3, atol=1e-4)
    assert (wanted - plain).abs().max() > 1e-2


@pytest.mark.parametrize("pair_name", ["sd15-openpose", "sdxl-openpose"])
def test_names_in_the_original_code(pair_name: str) -> None:
    """Of every layer, as diffusers' converter turns it back."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**ARCHITECTURES[pair_name].unet)
    names = list(unet.state_dict())
    original = original_names([name.rpartition(".")[0] for name in names])
    renamed = {f"model.diffusion_model.{original[n.rpartition('.')[0]]}.{n.rpartition('.')[2]}": n for n in names}
    assert len(renamed) == len(names)
    assert all(name == was for name, was in convert_ldm_unet_checkpoint(renamed, unet.config).items())


PUBLISHED: Mapping[str, Mapping[str, tuple[str, str]]] = {  # names as published files have them
    "sd15-openpose": {
        "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_ff_net_0_proj": (
            "unet",
            "down_blocks.1.attentions.0.transformer_blocks.0.ff.net.0.proj",
        ),
        "lora_te_text_model_encoder_layers_11_mlp_fc1": ("text_encoder", "encoder.layers.11.mlp.fc1"),
        "text_encoder.text_model.encoder.layers.3.self_attn.to_out": (
            "text_encoder",
            "encoder.layers.3.self_attn.out_proj",
        ),
        "base_model.model.text_model.encoder.layers.3.self_attn.k_proj": (
            "text_encoder",
            "encoder.layers.3.self_attn.k_proj",
        ),
        "up_blocks.1.attentions.2.transformer_blocks.0.attn1.to_out": (
            "unet",
            "up_blocks.1.attentions.2.transformer_blocks.0.attn1.to_out.0",
        ),
    },
    "sdxl-openpose": {
        "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_k": (
            "unet",
            "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_k",
        ),
        "lora_unet_output_blocks_2_2_conv": ("unet", "up_blocks.0.upsamplers.0.conv"),
        "lora_unet_label_emb_0_2": ("unet", "add_embedding.linear_2"),
        "lora_te1_text_model_encoder_layers_0_self_attn_q_proj": ("text_encoder", "encoder.layers.0.self_attn.q_proj"),
        "lora_te2_text_model_encoder_layers_31_mlp_fc2": ("text_encoder_2", "encoder.layers.31.mlp.fc2"),
        "lora_te2_text_projection": ("text_encoder_2", "text_projection"),
        "clip_g.text_model.encoder.layers.31.mlp.fc2": ("text_encoder_2", "encoder.layers.31.mlp.fc2"),
    },
}


@pytest.mark.parametrize("pair_name", PUBLISHED)
def test_published_names(pair_name: str) -> None:
    architecture = ARCHITECTURES[pair_name]
    with torch.device("meta"):
        unet = list(UNet2DConditionModel(**architecture.unet).state_dict())
    ends = ("mlp.fc1", "mlp.fc2", *(f"self_attn.{x}_proj" for x in ("q", "k", "v", "out")))
    names: dict[Any, list[str]] = {"unet": unet}
    for component in ("text_encoder", "text_encoder_2"):
        if config := getattr(architecture, component):
            layers = range(config["num_hidden_layers"])
            names[component] = [f"text_model.encoder.layers.{i}.{end}.weight" for i in layers for end in ends]
    if "text_encoder_2" in names:
        names["text_encoder_2"].append("text_projection.weight")
    known = layer_names(names)
    assert {name: (known[name].component, known[name].path) for name in PUBLISHED[pair_name]} == PUBLISHED[pair_name]


def test_diffusers_pipeline_has_the_same_beside(pair: Pair, tmp_path: Path) -> None:
    """In kohya's names, of a convolution and a linear layer."""
    beside: StableDiffusionPipeline = stock(pair)
    paths = ["down_blocks.0.resnets.0.conv1", "up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"]
    weights = dict(beside.unet.state_dict())
    generator = torch.Generator().manual_seed(5)
    tensors = {}
    for path in paths:
        outputs, *inner = weights[f"{path}.weight"].shape
        name = f"lora_unet_{path.replace('.', '_')}"
        tensors[f"{name}.lora_down.weight"] = torch.randn(RANK, *inner, generator=generator)
        tensors[f"{name}.lora_up.weight"] = torch.randn(outputs, RANK, *(1 for _ in inner[1:]), generator=generator)
        tensors[f"{name}.alpha"] = torch.tensor(1.0)
    found = fuse(pair, tensors, tmp_path, STRENGTH)
    beside.load_lora_weights(tmp_path / "file.safetensors", adapter_name="x")
    beside.set_adapters("x", STRENGTH)
    torch.testing.assert_close(predicted(stock(found).unet), predicted(beside.unet), rtol=1e-3, atol=1e-4)
