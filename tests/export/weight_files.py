"""Weights files of every kind, in the wild's names and shapes; their weights are holes on the disk."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.export.weight_shapes import (
    CLIP,
    COMFYUI_TEXT,
    CONTROL_LORA,
    CONV,
    CONVOLUTION,
    DIFFUSERS,
    DIFFUSERS_GROUNDING,
    DIFFUSERS_VAE,
    GROUNDING,
    IP,
    KOHYA,
    KOHYA_TEXT,
    KOHYA_XL,
    LABELS,
    LOCON,
    LOHA,
    LOKR,
    OLD,
    OPEN_CLIP_G,
    ORIGINAL,
    ORIGINAL_CONV,
    PEFT,
    SD1_TEXT,
    SD2_TEXT,
    SDXL_TEXT,
    T2I,
    TEXT,
    Shape,
    Shapes,
    control,
    diffusers_control,
    diffusers_unet,
    pair,
    prefixed,
    unet,
    vae,
    whole,
)

BYTES = {"F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "U8": 1, "I64": 8}


class Case(NamedTuple):
    name: str  # of the test
    kind: str
    family: str | None
    option: str | None  # that takes it
    shapes: Shapes
    dtype: str = "F16"


def write_file(
    path: Path, shapes: Mapping[str, Shape], dtype: str = "F16", metadata: dict[str, str] | None = None
) -> Path:
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    at = 0
    for name, shape in shapes.items():
        size = math.prod(shape) * BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)
    return path


SD1, SD2, XL, REFINER = "sd1", "sd2", "sdxl", "sdxl-refiner"
BASE, SPATIAL, FUSED, AUTO = "--text-to-image", "--spatial", "--lora", "--vae"

CASES = (
    Case("SD 1.5 whole", "model", SD1, BASE, whole(SD1_TEXT, 768)),
    Case(
        "SD 1.5 with EMA", "model", SD1, BASE, whole(SD1_TEXT, 768) | {"model_ema.decay": (), "alphas_cumprod": (1000,)}
    ),
    Case("SD 1.5 in fp8", "model", SD1, BASE, whole(SD1_TEXT, 768), "F8_E4M3"),
    Case("SD 1.5 without VAE", "model", SD1, BASE, prefixed("model.diffusion_model.", unet(768)) | SD1_TEXT),
    Case("SD 2.1 whole", "model", SD2, BASE, whole(SD2_TEXT, 1024)),
    Case("SDXL whole", "model", XL, BASE, whole(SDXL_TEXT, 2048) | prefixed("model.diffusion_model.", LABELS)),
    Case("SDXL refiner", "model", REFINER, None, whole(prefixed("conditioner.embedders.0.", OPEN_CLIP_G), 1280)),
    Case("SD 1.5 inpainting whole", "inpainting", SD1, None, whole(SD1_TEXT, 768, 9)),
    Case("InstructPix2Pix whole", "edit", SD1, None, whole(SD1_TEXT, 768, 8)),
    Case("SD 2 depth whole", "depth", SD2, None, whole(SD2_TEXT, 1024, 5)),
    Case("upscaler of latents whole", "upscaling", SD2, None, whole(SD2_TEXT, 1024, 7)),
    Case("InstructPix2Pix UNet", "edit-unet", SD1, None, diffusers_unet(768, 8)),
    Case("ControlNet-XS", "controlnet-xs", None, None, {"base_to_ctrl.0.weight": (96, 320, 1, 1)}),
    Case("fp8 with scales", "fp8-scaled", SD1, None, whole(SD1_TEXT, 768) | {"scaled_fp8": (2,)}, "F8_E4M3"),
    Case(
        "bitsandbytes",
        "bitsandbytes",
        SD1,
        None,
        diffusers_unet(768) | {"mid_block.resnets.0.conv1.weight.absmax": (64,)},
        "U8",
    ),
    Case("UNet, original names", "unet", SD1, None, unet(768)),
    Case("UNet, original names, prefixed", "unet", SD1, None, prefixed("model.diffusion_model.", unet(768))),
    Case("UNet, diffusers", "unet", SD1, None, diffusers_unet(768)),
    Case(
        "SDXL UNet, diffusers", "unet", XL, None, diffusers_unet(2048) | {"add_embedding.linear_1.weight": (1280, 2816)}
    ),
    Case("inpainting UNet, diffusers", "inpainting-unet", SD1, None, diffusers_unet(768, 9)),
    Case("GLIGEN, diffusers", "gligen", SD1, SPATIAL, diffusers_unet(768) | DIFFUSERS_GROUNDING),
    Case("GLIGEN, original names", "gligen", SD1, SPATIAL, unet(768) | GROUNDING),
    Case("GLIGEN, prefixed", "gligen", SD1, SPATIAL, prefixed("model.diffusion_model.", unet(768) | GROUNDING)),
    Case(
        "GLIGEN in a whole model",
        "gligen",
        SD1,
        SPATIAL,
        whole(SD1_TEXT, 768) | prefixed("model.diffusion_model.", GROUNDING),
    ),
    Case("GLIGEN's layers", "gligen-layers", SD1, SPATIAL, GROUNDING),
    Case("GLIGEN's layers, diffusers", "gligen-layers", SD1, SPATIAL, DIFFUSERS_GROUNDING),
    Case("GLIGEN inpainting", "gligen-inpainting", SD1, None, diffusers_unet(768, 9) | DIFFUSERS_GROUNDING),
    Case(
        "GLIGEN of pictures",
        "gligen-other",
        SD1,
        None,
        diffusers_unet(768) | {"position_net.linears_image.0.weight": (512, 832)},
    ),
    Case("ControlNet, original names", "controlnet", SD1, SPATIAL, prefixed("control_model.", control(768))),
    Case(
        "ControlNet in a whole model",
        "controlnet",
        SD1,
        SPATIAL,
        whole(SD1_TEXT, 768) | prefixed("control_model.", control(768)),
    ),
    Case("ControlNet, no prefix", "controlnet", SD1, SPATIAL, control(768)),
    Case("ControlNet, diffusers", "controlnet", SD1, SPATIAL, diffusers_control(768)),
    Case("ControlNet of SD 2", "controlnet", SD2, SPATIAL, diffusers_control(1024)),
    Case(
        "ControlNet of SDXL",
        "controlnet",
        XL,
        SPATIAL,
        diffusers_control(2048) | {"add_embedding.linear_1.weight": (1280, 2816)},
    ),
    Case(
        "ControlNet, difference",
        "controlnet-difference",
        SD1,
        None,
        prefixed("control_model.", control(768)) | {"difference": ()},
    ),
    Case(
        "ControlNet union",
        "controlnet-union",
        XL,
        None,
        diffusers_control(2048) | {"control_add_embedding.linear_1.weight": (1280, 256)},
    ),
    Case(
        "ControlNet of Flux",
        "transformer-controlnet",
        None,
        None,
        {"controlnet_x_embedder.weight": (3072, 64), "transformer_blocks.0.attn.to_q.weight": (3072, 3072)},
    ),
    Case("Control-LoRA", "control-lora", XL, None, CONTROL_LORA),
    Case(
        "ControlNet-LLLite",
        "controlnet-lllite",
        None,
        None,
        {"lllite_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.down.0.weight": (64, 640)},
    ),
    Case("T2I-Adapter", "t2i-adapter", SD1, None, T2I),
    Case(
        "T2I-Adapter, light",
        "t2i-adapter",
        SD1,
        None,
        {"body.0.in_conv.weight": (80, 192, 1, 1), "body.0.body.0.block1.weight": (80, 80, 3, 3)},
    ),
    Case(
        "T2I-Adapter of SDXL, diffusers",
        "t2i-adapter",
        XL,
        None,
        {"adapter.conv_in.weight": (320, 768, 3, 3), "adapter.body.0.resnets.0.block1.weight": (320, 320, 3, 3)},
    ),
    Case("IP-Adapter", "ip-adapter", SD1, None, IP | {"ip_adapter.1.to_k_ip.weight": (320, 768)}),
    Case("IP-Adapter of SDXL", "ip-adapter", XL, None, IP | {"ip_adapter.1.to_k_ip.weight": (640, 2048)}),
    Case(
        "AnimateDiff",
        "animatediff",
        None,
        None,
        {"down_blocks.0.motion_modules.0.temporal_transformer.norm.weight": (320,)},
    ),
    Case("LoRA, kohya", "lora", SD1, FUSED, pair(KOHYA, 768) | {f"{KOHYA}.alpha": ()}),
    Case("LoRA, kohya, with text encoder", "lora", SD1, FUSED, pair(KOHYA, 768) | pair(KOHYA_TEXT, 768)),
    Case("LoRA, kohya, text encoder alone", "lora", SD1, FUSED, pair(KOHYA_TEXT, 768)),
    Case("LoRA, kohya, SD 2", "lora", SD2, FUSED, pair(KOHYA, 1024)),
    Case(
        "LoRA, kohya, SDXL", "lora", XL, FUSED, pair(KOHYA_XL, 2048) | pair(KOHYA_TEXT.replace("te_", "te2_", 1), 1280)
    ),
    Case("LoRA, kohya, SDXL by text", "lora", XL, FUSED, pair(KOHYA_TEXT.replace("te_", "te1_", 1), 768)),
    Case("LoRA, diffusers", "lora", SD1, FUSED, pair(f"unet.{DIFFUSERS}", 768, *PEFT) | pair(TEXT, 768, *PEFT)),
    Case("LoRA, diffusers, SDXL", "lora", XL, FUSED, pair(f"unet.{DIFFUSERS}", 2048, *PEFT)),
    Case("LoRA, diffusers, older", "lora", SD1, FUSED, pair(f"unet.{DIFFUSERS}", 768, *OLD)),
    Case(
        "LoRA, diffusers, oldest",
        "lora",
        SD1,
        FUSED,
        pair(DIFFUSERS.replace("to_k", "processor.to_k_lora"), 768, ".down.weight", ".up.weight"),
    ),
    Case("LoRA, PEFT", "lora", SD1, FUSED, pair(f"base_model.model.{DIFFUSERS}", 768, *PEFT)),
    Case(
        "LoRA, OneTrainer",
        "lora",
        XL,
        FUSED,
        pair("unet.input_blocks.4.1.transformer_blocks.0.attn2.to_k", 2048)
        | pair("clip_g.text_model.encoder.layers.0.mlp.fc1", 1280),
    ),
    Case(
        "LoRA, OneTrainer with embeddings",
        "lora",
        XL,
        FUSED,
        pair(KOHYA_XL, 2048) | {"bundle_emb.cat.clip_l": (2, 768), "bundle_emb.cat.clip_g": (2, 1280)},
    ),
    Case("LoRA, ComfyUI", "lora", SD1, FUSED, pair(f"diffusion_model.{ORIGINAL}", 768) | pair(COMFYUI_TEXT, 768)),
    Case("LoRA, ComfyUI, PEFT's ends", "lora", XL, FUSED, pair(f"diffusion_model.{ORIGINAL}", 2048, *PEFT)),
    Case("LoRA, ComfyUI, diffusers' paths", "lora", SD2, FUSED, pair(f"diffusion_model.{DIFFUSERS}", 1024, *PEFT)),
    Case("LoRA, ComfyUI, SD 2's text encoder", "lora", SD2, FUSED, pair(COMFYUI_TEXT.replace("_l", "_h"), 1024)),
    Case("LoCon, ComfyUI", "locon", None, FUSED, prefixed(f"diffusion_model.{ORIGINAL_CONV}", LOCON)),
    Case("LoKr, ComfyUI", "lokr", SD1, FUSED, prefixed(f"diffusion_model.{ORIGINAL}", LOKR)),
    *(
        Case(f"LoRA of a transformer, {name}", "transformer-lora", None, None, pair(name, 3072, *PEFT))
        for name in (
            "diffusion_model.double_blocks.0.img_attn.proj",  # Flux
            "diffusion_model.joint_blocks.0.x_block.attn.qkv",  # Stable Diffusion 3
            "diffusion_model.transformer_blocks.0.attn.to_q",  # Qwen-Image
            "diffusion_model.blocks.0.self_attn.q",  # Wan
            "diffusion_model.layers.0.attention.to_q",  # Z-Image
            "diffusion_model.double_layers.0.attn.w1q",  # AuraFlow
            "base_model.model.transformer_blocks.0.attn.to_q",
            "transformer_blocks.0.attn.to_q",
            "single_transformer_blocks.0.attn.to_q",
        )
    ),
    Case("LoKr of Flux, LyCORIS", "transformer-lora", None, None, prefixed("lycoris_transformer_blocks_0_ff", LOKR)),
    Case("LoRA of Flux, kohya", "transformer-lora", None, None, pair("lora_unet_double_blocks_0_img_attn_proj", 3072)),
    Case(
        "LoRA of Flux, diffusers",
        "transformer-lora",
        None,
        None,
        pair("transformer.transformer_blocks.0.attn.to_q", 3072, *PEFT),
    ),
    Case("LoCon", "locon", SD1, FUSED, pair(KOHYA, 768) | CONVOLUTION),
    Case(
        "LoCon, Tucker",
        "lora-tucker",
        SD1,
        FUSED,
        pair(KOHYA, 768) | {f"{CONV}.lora_down.weight": (4, 320, 1, 1), f"{CONV}.lora_mid.weight": (4, 4, 3, 3)},
    ),
    Case("DoRA, kohya", "dora", SD1, FUSED, pair(KOHYA, 768) | {f"{KOHYA}.dora_scale": (1, 768)}),
    Case(
        "DoRA, diffusers",
        "dora",
        SD1,
        FUSED,
        pair(f"unet.{DIFFUSERS}", 768, *PEFT) | {f"unet.{DIFFUSERS}.lora_magnitude_vector": (640,)},
    ),
    Case("LoHa", "loha", SD1, FUSED, prefixed(KOHYA, LOHA)),
    Case(
        "LoHa, Tucker",
        "loha-tucker",
        SD1,
        FUSED,
        prefixed(KOHYA, LOHA) | {f"{CONV}.hada_t1": (4, 4, 3, 3), f"{CONV}.hada_w1_a": (4, 320)},
    ),
    Case("LoKr", "lokr", SD1, FUSED, prefixed(KOHYA, LOKR)),
    Case("LoKr, Tucker", "lokr-tucker", SD1, FUSED, prefixed(KOHYA, LOKR) | {f"{CONV}.lokr_t2": (4, 4, 3, 3)}),
    Case("OFT", "oft", None, None, {f"{KOHYA}.oft_blocks": (4, 160, 160)}),
    Case("GLoRA", "glora", None, None, {f"{KOHYA}.a1.weight": (4, 768), f"{KOHYA}.b1.weight": (4, 768)}),
    Case("IA3", "ia3", None, None, {f"{KOHYA}.weight": (640, 1), f"{KOHYA}.on_input": ()}),
    Case("LyCORIS full", "full-difference", SD1, None, {f"{KOHYA}.diff": (640, 768)}),
    Case("textual inversion", "textual-inversion", SD1, None, {"emb_params": (4, 768)}, "F32"),
    Case("textual inversion, diffusers", "textual-inversion", SD1, None, {"<cat-toy>": (768,)}, "F32"),
    Case("textual inversion, SD 2", "textual-inversion", SD2, None, {"emb_params": (4, 1024)}, "F32"),
    Case("textual inversion, SDXL", "textual-inversion", XL, None, {"clip_l": (4, 768), "clip_g": (4, 1280)}, "F32"),
    Case("VAE, original names", "vae", None, AUTO, vae()),
    Case("VAE, prefixed", "vae", None, AUTO, prefixed("first_stage_model.", vae())),
    Case("VAE, diffusers", "vae", None, AUTO, DIFFUSERS_VAE),
    Case("VAE of Flux", "wide-vae", None, None, vae(16)),
    Case("TAESD", "tiny-vae", None, None, {"decoder.layers.1.conv.0.weight": (64, 64, 3, 3)}),
    Case("text encoder", "text-encoder", None, None, CLIP),
    Case(
        "text encoder, no prefix",
        "text-encoder",
        None,
        None,
        {name.removeprefix("text_model."): one for name, one in CLIP.items()},
    ),
    Case("image encoder", "image-encoder", None, None, {"vision_model.embeddings.class_embedding": (1280,)}),
    Case(
        "safety checker",
        "safety-checker",
        None,
        None,
        {"concept_embeds": (17, 768), "vision_model.vision_model.post_layernorm.weight": (1024,)},
    ),
    Case(
        "T5",
        "t5",
        None,
        None,
        {"shared.weight": (32128, 4096), "encoder.block.0.layer.0.SelfAttention.q.weight": (4096, 4096)},
    ),
    Case("Flux", "transformer", None, None, {"double_blocks.0.img_attn.proj.weight": (3072, 3072)}),
    Case(
        "SD 3",
        "transformer",
        None,
        None,
        {"model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": (4608, 1536)},
    ),
    Case("SD 3, diffusers", "transformer", None, None, {"transformer_blocks.0.attn.add_k_proj.weight": (1536, 1536)}),
    Case("Stable Cascade", "cascade", None, None, {"clip_txt_mapper.weight": (2048, 1280)}),
    Case(
        "upscaler",
        "upscaler",
        None,
        None,
        {"body.0.rdb1.conv1.weight": (32, 64, 3, 3), "conv_first.weight": (64, 3, 3, 3)},
    ),
    Case("nothing", "empty", None, None, {}),
    Case("something else", "unknown", None, None, {"layer1.0.weight": (3, 3)}),
)
