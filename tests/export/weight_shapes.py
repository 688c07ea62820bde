"""Names and shapes of weights files as they are in the wild, a few of each kind's."""

Shape = tuple[int, ...]
Shapes = dict[str, Shape]


def prefixed(prefix: str, shapes: Shapes) -> Shapes:
    return {prefix + name: shape for name, shape in shapes.items()}


def unet(width: int, channels: int = 4) -> Shapes:
    """A few of the original code's names."""
    return {
        "time_embed.0.weight": (1280, 320),
        "input_blocks.0.0.weight": (320, channels, 3, 3),
        "input_blocks.1.0.in_layers.2.weight": (320, 320, 3, 3),
        "input_blocks.4.1.transformer_blocks.0.attn1.to_k.weight": (640, 640),
        "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight": (640, width),
        "middle_block.0.in_layers.0.weight": (1280,),
        "output_blocks.0.0.in_layers.0.weight": (2560,),
        "out.2.weight": (4, 320, 3, 3),
    }


def diffusers_unet(width: int, channels: int = 4) -> Shapes:
    return {
        "conv_in.weight": (320, channels, 3, 3),
        "time_embedding.linear_1.weight": (1280, 320),
        "down_blocks.0.resnets.0.conv1.weight": (320, 320, 3, 3),
        "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight": (640, width),
        "mid_block.resnets.0.conv1.weight": (1280, 1280, 3, 3),
        "up_blocks.0.resnets.0.conv1.weight": (1280, 2560, 3, 3),
        "conv_out.weight": (4, 320, 3, 3),
    }


def vae(channels: int = 4) -> Shapes:
    return {
        "encoder.conv_in.weight": (128, 3, 3, 3),
        "encoder.down.0.block.0.conv1.weight": (128, 128, 3, 3),
        "decoder.conv_in.weight": (512, channels, 3, 3),
        "decoder.up.0.block.0.conv1.weight": (128, 256, 3, 3),
        "decoder.mid.attn_1.q.weight": (512, 512, 1, 1),
        "post_quant_conv.weight": (channels, channels, 1, 1),
    }


DIFFUSERS_VAE: Shapes = {
    "encoder.conv_in.weight": (128, 3, 3, 3),
    "encoder.down_blocks.0.resnets.0.conv1.weight": (128, 128, 3, 3),
    "decoder.conv_in.weight": (512, 4, 3, 3),
    "decoder.mid_block.attentions.0.to_q.weight": (512, 512),
    "decoder.up_blocks.0.resnets.0.conv1.weight": (512, 512, 3, 3),
}
CLIP: Shapes = {
    "text_model.embeddings.token_embedding.weight": (49408, 768),
    "text_model.encoder.layers.0.self_attn.q_proj.weight": (768, 768),
    "text_model.final_layer_norm.weight": (768,),
}
OPEN_CLIP: Shapes = {
    "model.token_embedding.weight": (49408, 1024),
    "model.transformer.resblocks.0.mlp.c_fc.weight": (4096, 1024),
}
OPEN_CLIP_G = {name: tuple(1280 if n == 1024 else n for n in shape) for name, shape in OPEN_CLIP.items()}
FUSERS: Shapes = {
    "position_net.null_positive_feature": (768,),
    "position_net.null_position_feature": (64,),
    "position_net.linears.0.weight": (512, 832),
}
FUSER: Shapes = {"alpha_attn": (), "linear.weight": (640, 768), "attn.to_q.weight": (640, 640)}
GROUNDING = FUSERS | prefixed("input_blocks.4.1.transformer_blocks.0.fuser.", FUSER)
DIFFUSERS_GROUNDING = FUSERS | prefixed("down_blocks.1.attentions.0.transformer_blocks.0.fuser.", FUSER)


def whole(text: Shapes, width: int, channels: int = 4) -> Shapes:
    return prefixed("model.diffusion_model.", unet(width, channels)) | text | prefixed("first_stage_model.", vae())


SD1_TEXT = prefixed("cond_stage_model.transformer.", CLIP)
SD2_TEXT = prefixed("cond_stage_model.", OPEN_CLIP)
SDXL_TEXT = prefixed("conditioner.embedders.0.transformer.", CLIP) | prefixed("conditioner.embedders.1.", OPEN_CLIP_G)
LABELS: Shapes = {"label_emb.0.0.weight": (1280, 2816)}


def control(width: int) -> Shapes:
    kept = {name: shape for name, shape in unet(width).items() if not name.startswith(("output_blocks", "out"))}
    return kept | {"input_hint_block.0.weight": (16, 3, 3, 3), "zero_convs.0.0.weight": (320, 320, 1, 1)}


def diffusers_control(width: int) -> Shapes:
    kept = {
        name: shape for name, shape in diffusers_unet(width).items() if not name.startswith(("up_blocks", "conv_out"))
    }
    return kept | {
        "controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3),
        "controlnet_down_blocks.0.weight": (320, 320, 1, 1),
        "controlnet_mid_block.weight": (1280, 1280, 1, 1),
    }


def pair(layer: str, width: int, down: str = ".lora_down.weight", up: str = ".lora_up.weight", rank: int = 4) -> Shapes:
    return {layer + down: (rank, width), layer + up: (640, rank)}


KOHYA = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
KOHYA_XL = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"
DIFFUSERS = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
ORIGINAL = "input_blocks.4.1.transformer_blocks.0.attn2.to_k"
ORIGINAL_CONV = "input_blocks.1.0.in_layers.2"
CONV = "lora_unet_down_blocks_0_resnets_0_conv1"
KOHYA_TEXT = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
COMFYUI_TEXT = "text_encoders.clip_l.transformer.text_model.encoder.layers.0.self_attn.q_proj"
TEXT = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
PEFT = (".lora_A.weight", ".lora_B.weight")
OLD = (".lora.down.weight", ".lora.up.weight")
LOCON: Shapes = {".lora_down.weight": (4, 320, 3, 3), ".lora_up.weight": (320, 4, 1, 1)}
LOHA: Shapes = {
    ".hada_w1_a": (640, 4),
    ".hada_w1_b": (4, 768),
    ".hada_w2_a": (640, 4),
    ".hada_w2_b": (4, 768),
    ".alpha": (),
}
LOKR: Shapes = {".lokr_w1": (8, 8), ".lokr_w2_a": (80, 4), ".lokr_w2_b": (4, 96), ".alpha": ()}
IP: Shapes = {"image_proj.proj.weight": (3072, 1024), "image_proj.norm.weight": (768,)}
CONVOLUTION = prefixed(CONV, LOCON)
CONTROL_LORA: Shapes = {
    "lora_controlnet": (0,),
    "input_hint_block.0.weight": (16, 3, 3, 3),
    "input_blocks.4.1.transformer_blocks.0.attn2.to_k.down": (128, 2048),
    "input_blocks.4.1.transformer_blocks.0.attn2.to_k.up": (640, 128),
    "label_emb.0.0.down": (128, 2816),
}
T2I: Shapes = {
    "conv_in.weight": (320, 192, 3, 3),
    "body.0.block1.weight": (320, 320, 3, 3),
    "body.0.block2.weight": (320, 320, 1, 1),
}
