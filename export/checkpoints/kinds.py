"""What weights files may hold: a row of `KINDS` each, told by the names and shapes of tensors."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from export.checkpoints.header import Tensors
from export.checkpoints.places import CONTROLNET, GLIGEN, LORA, TEXT_TO_IMAGE, VAE, Place


@dataclass(frozen=True)
class Kind:
    """A file is of the first kind all of whose patterns are found in its names, one a line."""

    name: str
    title: str  # for people
    place: Place | None  # which option takes it
    tells: tuple[str, ...]
    where: Callable[[Tensors], bool] = lambda tensors: True  # what shapes say besides
    why: str = "which RealCompo does not use"  # where no option takes it
    has_family: bool = True  # of base models that it goes with


_UNET = r"(?:^|\.)input_blocks\.\d+\.\d+\.|^(?:unet\.)?down_blocks\.\d+\.(?:resnets|attentions)\."
_FIRST = re.compile(r"^(?:(?:unet\.)?conv_in|(?:.*\.)?input_blocks\.0\.0)\.weight$")  # a UNet's first layer
_REST = r"^(?:cond_stage_model|conditioner|first_stage_model|text_encoder|autoencoder|vae)\."  # of a whole model
_GROUNDING = r"(?:^|\.)position_net\.|\.fuser\."
_CONTROLNET = (
    r"^control_model\.|^(?:controlnet_(?:cond_embedding|down_blocks|mid_block)|input_hint_block|zero_convs)\."
    r"|^difference$"
)
_LORA = (
    r"(?:lora_(?:down|up|A|B)|lora\.(?:down|up)|lora_linear_layer\.(?:down|up)|_lora\.(?:down|up))\.(?:\w+\.)?weight$"
)
_ADAPTER = rf"{_LORA}|\.(?:hada_w1_a|lokr_w[12]|lokr_w[12]_a|diff|oft_blocks|dora_scale)$"
_PREFIX = r"(?:lora_unet[._]|lycoris_(?:unet_)?|diffusion_model\.|base_model\.model\.|unet\.)"  # a UNet's have them too
_TRANSFORMER = (
    rf"^(?:lora_)?transformer[._]|^{_PREFIX}?(?:(?:double|single|joint)_)?(?:transformer_)?(?:blocks|layers)[._]\d"
    r"|^lora_te3_"
)
_VAE = r"(?:^|\.)(?:decoder|encoder)\.(?:up|down|mid|up_blocks|down_blocks|mid_block)\."
_HALF = "which lacks a text encoder and a VAE"
_FOLDER = "which is taken as a diffusers folder, with its config.json"
_OTHER = "which is not supported"


def _has_first(tensors: Tensors) -> bool:
    return any(_FIRST.search(name) for name in tensors)


def _channels(count: int) -> Callable[[Tensors], bool]:
    """Whether a UNet's first layer takes so many channels."""
    return lambda tensors: any(_FIRST.search(name) and one.shape[1:2] == (count,) for name, one in tensors.items())


def _latents_are_wide(tensors: Tensors) -> bool:
    shapes = [one.shape for name, one in tensors.items() if name.endswith("decoder.conv_in.weight")]
    return any(len(shape) == 4 and shape[1] > 4 for shape in shapes)


def _convolves(tensors: Tensors) -> bool:
    """Whether a matrix of an adapter is a kernel of more than one pixel."""
    return any(len(one.shape) == 4 and one.shape[-1] > 1 for one in tensors.values())


def _is_embedding(tensors: Tensors) -> bool:
    """A few vectors as wide as a text encoder's, under a name that the user chose."""
    return len(tensors) == 1 and all(
        len(one.shape) in (1, 2) and one.shape[-1] in (768, 1024, 1280) for one in tensors.values()
    )


KINDS: tuple[Kind, ...] = (
    Kind(
        "empty",
        "a file without weights",
        None,
        (),
        where=lambda tensors: not tensors,
        why="so nothing can be made of it",
        has_family=False,
    ),
    Kind(
        "bitsandbytes",
        "a model in bitsandbytes' 4 or 8 bits",
        None,
        (r"\.(?:absmax|quant_map|nested_absmax|SCB)$|\.quant_state\.",),
        why="which cannot be exported; take its 16-bit file",
    ),
    Kind(
        "fp8-scaled",
        "a model in fp8 with scales beside its weights",
        None,
        (r"^scaled_fp8$|\.(?:scale_weight|weight_scale)$",),
        why="which cannot be exported; take its 16-bit file",
    ),
    # What is attached to a model
    Kind("control-lora", "a Control-LoRA", None, (r"^lora_controlnet$",)),
    Kind("controlnet-lllite", "a ControlNet-LLLite", None, (r"^lllite_(?:unet|dit)_",)),
    Kind("ip-adapter", "an IP-Adapter", None, (r"^(?:ip_adapter|image_proj)\.|[._]to_[kv]_ip\.",)),
    Kind(
        "t2i-adapter",
        "a T2I-Adapter",
        None,
        (r"^(?:adapter\.)?body\.\d+\.(?:resnets\.\d+\.|body\.\d+\.)?(?:block[12]|in_conv|skep|down_opt)\.",),
        why=_FOLDER,
    ),
    Kind("animatediff", "an AnimateDiff motion module", None, (r"\bmotion_modules\.",)),
    # LoRAs and their relatives
    Kind(
        "transformer-lora",
        "a LoRA of a transformer, such as Flux or Stable Diffusion 3",
        None,
        (_TRANSFORMER, _ADAPTER),
        why=_OTHER,
    ),
    Kind("loha-tucker", "a LoHa with Tucker cores", LORA, (r"\.hada_t[12]$",)),
    Kind("loha", "a LoHa", LORA, (r"\.hada_w[12]_[ab]$",)),
    Kind("lokr-tucker", "a LoKr with Tucker cores", LORA, (r"\.lokr_t2$",)),
    Kind("lokr", "a LoKr", LORA, (r"\.lokr_w[12](?:_[ab])?$",)),
    Kind("oft", "an OFT", None, (r"\.oft_(?:blocks|diag)$|\.oft_R\.",)),
    Kind("glora", "a GLoRA", None, (r"^(?:lora|lycoris)_\w+\.[ab][12]\.weight$",)),
    Kind("ia3", "an IA3", None, (r"^(?:lora|lycoris)_\w+\.on_input$",)),
    Kind("lora-tucker", "a LoCon with Tucker cores", LORA, (r"\.lora_mid\.weight$",)),
    Kind("dora", "a DoRA", LORA, (r"\.dora_scale$|\.lora_magnitude_vector\b", _LORA)),
    Kind("locon", "a LoCon (a LoRA of convolutions)", LORA, (_LORA,), where=_convolves),
    Kind("lora", "a LoRA", LORA, (_LORA,)),
    Kind("full-difference", "a LyCORIS difference of whole weights", None, (r"^(?:lora|lycoris)_\w+\.diff(?:_b)?$",)),
    # Spatial models
    Kind(
        "gligen-other",
        "a GLIGEN of pictures, keypoints or maps",
        None,
        (r"position_net\.(?:linears_image|linears_text|person_embeddings|keypoint_embeddings|convnext|in_conv)",),
        why="which is not supported: only boxes with phrases are",
    ),
    Kind("gligen-inpainting", "an inpainting GLIGEN", None, (_GROUNDING, _UNET), where=_channels(9), why=_OTHER),
    Kind("gligen", "GLIGEN with its whole UNet", GLIGEN, (_GROUNDING, _UNET), where=_has_first),
    Kind("gligen-layers", "GLIGEN's own layers alone", GLIGEN, (_GROUNDING,)),
    Kind(
        "controlnet-union", "a ControlNet union", None, (r"^(?:control_add_embedding\.|task_embedding$)",), why=_FOLDER
    ),
    Kind("controlnet-xs", "a ControlNet-XS", None, (r"(?:^|\.)(?:ctrl_to_base|base_to_ctrl|enc_zero_convs)",)),
    Kind(
        "transformer-controlnet",
        "a ControlNet of a transformer, such as Flux or Stable Diffusion 3",
        None,
        (r"^controlnet_(?:x_embedder|blocks|single_blocks)\.",),
        why=_OTHER,
    ),
    Kind(
        "controlnet-difference",
        "a ControlNet as a difference from a UNet",
        None,
        (r"^difference$",),
        why="which is not supported; take the whole ControlNet",
    ),
    Kind("controlnet", "a ControlNet", CONTROLNET, (_CONTROLNET,)),
    # Models
    Kind(
        "transformer",
        "a transformer, such as Flux or Stable Diffusion 3",
        None,
        (
            r"(?:^|\.)(?:joint_blocks|double_blocks|single_transformer_blocks|transformer_blocks|dit_blocks)\.\d+\."
            r"(?:x_block|context_block|img_attn|txt_attn|attn\.|norm1\.linear|ff_context|norm1_context)",
        ),
        why=_OTHER,
        has_family=False,
    ),
    Kind(
        "cascade",
        "a Stable Cascade model",
        None,
        (r"^clip_txt_mapper\.|\.channelwise\.",),
        why=_OTHER,
        has_family=False,
    ),
    Kind("inpainting", "a whole inpainting model", None, (_UNET, _REST), where=_channels(9), why=_OTHER),
    Kind("edit", "a whole InstructPix2Pix model", None, (_UNET, _REST), where=_channels(8), why=_OTHER),
    Kind("depth", "a whole depth-to-image model", None, (_UNET, _REST), where=_channels(5), why=_OTHER),
    Kind("upscaling", "a whole upscaling model", None, (_UNET, _REST), where=_channels(7), why=_OTHER),
    Kind("model", "a whole model", TEXT_TO_IMAGE, (_UNET, _REST)),
    Kind("inpainting-unet", "an inpainting UNet", None, (_UNET,), where=_channels(9), why=_OTHER),
    Kind("edit-unet", "an InstructPix2Pix UNet", None, (_UNET,), where=_channels(8), why=_OTHER),
    Kind("unet", "a UNet alone", None, (_UNET,), why=_HALF),
    # Parts of models
    Kind(
        "wide-vae",
        "a VAE of more than 4 channels",
        None,
        (_VAE,),
        where=_latents_are_wide,
        why=_OTHER,
        has_family=False,
    ),
    Kind("vae", "a VAE alone", VAE, (_VAE,), has_family=False),
    Kind(
        "tiny-vae",
        "a tiny VAE (TAESD)",
        None,
        (r"^(?:(?:encoder|decoder)\.layers\.)?\d+\.conv\.\d+\.weight$",),
        has_family=False,
    ),
    Kind("safety-checker", "a safety checker", None, (r"^concept_embeds(?:_weights)?$",), has_family=False),
    Kind(
        "image-encoder",
        "a CLIP image encoder",
        None,
        (r"^(?:vision_model\.|visual_projection\.|visual\.)",),
        has_family=False,
    ),
    Kind("t5", "a T5 text encoder", None, (r"\.SelfAttention\.|\.DenseReluDense\.",), why=_OTHER, has_family=False),
    Kind(
        "text-encoder",
        "a text encoder alone",
        None,
        (
            r"(?:^|\.)(?:embeddings\.token_embedding|token_embedding|encoder\.layers\.\d+\.mlp\.fc1|resblocks\.\d+\.mlp\.c_fc)\.",
        ),
        why="which comes with its model",
        has_family=False,
    ),
    Kind("textual-inversion", "a textual inversion", None, (r"^(?:emb_params|clip_[lg]|string_to_param\.\*)$",)),
    Kind("upscaler", "an upscaler (ESRGAN)", None, (r"\.rdb\d\.conv|^model\.\d+\.sub\.|\.RDB\d\.",), has_family=False),
    Kind("textual-inversion", "a textual inversion", None, (r".",), where=_is_embedding),
)
UNKNOWN = Kind("unknown", "of no known kind", None, (), why="which no option takes", has_family=False)


def kind_of(tensors: Tensors) -> Kind:
    """The first row that fits, or `UNKNOWN`."""
    names = "\n".join(tensors)
    return next((kind for kind in KINDS if _fits(kind, names, tensors)), UNKNOWN)


def _fits(kind: Kind, names: str, tensors: Tensors) -> bool:
    return all(re.search(tell, names, re.MULTILINE) for tell in kind.tells) and kind.where(tensors)
