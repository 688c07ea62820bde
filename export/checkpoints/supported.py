"""Which architectures the exporter knows, told from checkpoints' configs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from runtime.errors import RealCompoError

SUPPORTED = (
    "Supported are pairs shaped like Stable Diffusion 1.x and SDXL: a UNet2DConditionModel with 4 latent channels, "
    "CLIP text cross-attention, epsilon or velocity prediction; as spatial model the same with GLIGEN's text-and-box "
    'grounding (attention_type "gated", of 1.x alone), or ControlNetModels of that UNet'
)

MainComponent = Literal["unet", "vae", "text_encoder", "controlnet"]
Component = MainComponent | Literal["text_encoder_2"]  # the further one is SDXL's alone
TIME_IDS = 6  # numbers: height and width of the original, of what was cut off at the top and left, of the target
XL = "text_time"  # addition_embed_type of SDXL's UNets, which take a pooled text and the picture's sizes besides
Rules = Mapping[str, tuple[Any, ...]]  # config field: what is supported, first of all the class's default


class Described(Protocol):
    """A checkpoint's configs."""

    @property
    def is_xl(self) -> bool: ...

    @property
    def model(self) -> str: ...

    def place(self, component: Component) -> Path: ...

    def config(self, component: Component) -> dict[str, Any]: ...

    def read_json(self, path: str) -> dict[str, Any]: ...


_DOWN_BLOCKS, _UP_BLOCKS = (
    tuple(name.format(way) for name in ("CrossAttn{}Block2D", "{}Block2D")) for way in ("Down", "Up")
)
_DENOISER_RULES: Rules = {  # of UNets and ControlNets
    "in_channels": (4,),
    "mid_block_type": ("UNetMidBlock2DCrossAttn",),
    "only_cross_attention": (False,),
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
    "addition_embed_type": (None, XL),
    "encoder_hid_dim_type": (None,),
}
_UNET_RULES: Rules = {
    "_class_name": ("UNet2DConditionModel",),
    "out_channels": (4,),
    "attention_type": ("default", "gated"),
    "dual_cross_attention": (False,),
    "time_cond_proj_dim": (None,),
    **_DENOISER_RULES,
}
_CONTROLNET_RULES: Rules = {
    "_class_name": ("ControlNetModel",),
    "conditioning_channels": (3,),
    "controlnet_conditioning_channel_order": ("rgb",),
    "global_pool_conditions": (False,),
    **_DENOISER_RULES,
}
_VAE_RULES: Rules = {
    "_class_name": ("AutoencoderKL",),
    "latent_channels": (4,),
    "out_channels": (3,),
    "shift_factor": (None,),
}
_OF_THE_UNET = (  # what a ControlNet takes and adds has to fit
    *("block_out_channels", "layers_per_block", "down_block_types"),
    *("addition_embed_type", "addition_time_embed_dim", "projection_class_embeddings_input_dim"),
)


def check_supported(text_to_image: Described, spatial: Described, controlnets: Sequence[Described]) -> None:
    """Raise RealCompoError for the first thing that is not supported, or that does not fit the other model."""
    _check_base(text_to_image)
    for controlnet in controlnets:
        _check_controlnet(controlnet, text_to_image)
    if not controlnets:
        _check_gligen(spatial, text_to_image)


def _check_base(base: Described) -> None:
    _check_unet(base, base)
    _check_rules(base, "vae", _VAE_RULES)
    _check_rules(base, "text_encoder", {"model_type": ("clip_text_model",)})
    if base.is_xl:
        _check_second_text_encoder(base)
    predicted = base.read_json("scheduler/scheduler_config.json").get("prediction_type", "epsilon")
    place = base.place("unet").with_name("scheduler")
    _check(base, place, "prediction_type", predicted, ("epsilon", "v_prediction"))


def _check_second_text_encoder(base: Described) -> None:
    _check_rules(base, "text_encoder_2", {"model_type": ("clip_text_model",)})
    second = base.config("text_encoder_2")
    width = second.get("projection_dim", 0) + TIME_IDS * (base.config("unet").get("addition_time_embed_dim") or 0)
    _check_field(base, "unet", "projection_class_embeddings_input_dim", (width,))
    _check_field(base, "text_encoder", "max_position_embeddings", (second.get("max_position_embeddings"),))


def _check_unet(checkpoint: Described, base: Described) -> None:
    _check_rules(checkpoint, "unet", _UNET_RULES)
    _check_blocks(checkpoint, "unet", "down_block_types", _DOWN_BLOCKS)
    _check_blocks(checkpoint, "unet", "up_block_types", _UP_BLOCKS)
    _check_text_width(checkpoint, "unet", base)


def _check_gligen(spatial: Described, base: Described) -> None:
    _check_unet(spatial, base)
    _check_field(spatial, "unet", "attention_type", ("gated",), default="default")
    _check_field(spatial, "unet", "addition_embed_type", (None,))
    _check_field(spatial, "unet", "sample_size", (base.config("unet")["sample_size"],))


def _check_controlnet(controlnet: Described, base: Described) -> None:
    _check_rules(controlnet, "controlnet", _CONTROLNET_RULES)
    _check_blocks(controlnet, "controlnet", "down_block_types", _DOWN_BLOCKS)
    _check_text_width(controlnet, "controlnet", base)
    for field in _OF_THE_UNET:
        _check_field(controlnet, "controlnet", field, (base.config("unet").get(field),))
    levels = len(base.config("vae")["block_out_channels"])
    embedding = controlnet.config("controlnet")["conditioning_embedding_out_channels"]
    place = controlnet.place("controlnet")
    _check(controlnet, place, "number of conditioning_embedding_out_channels", len(embedding), (levels,))


def _check_text_width(checkpoint: Described, component: Component, base: Described) -> None:
    encoders: tuple[Component, ...] = ("text_encoder", "text_encoder_2") if base.is_xl else ("text_encoder",)
    width = sum(base.config(encoder)["hidden_size"] for encoder in encoders)
    _check_field(checkpoint, component, "cross_attention_dim", (width,))


def _check_blocks(checkpoint: Described, component: Component, field: str, allowed: tuple[str, ...]) -> None:
    for block in checkpoint.config(component)[field]:
        _check(checkpoint, checkpoint.place(component), field, block, allowed)


def _check_rules(checkpoint: Described, component: Component, rules: Rules) -> None:
    for field, allowed in rules.items():
        _check_field(checkpoint, component, field, allowed, default=allowed[0])


def _check_field(
    checkpoint: Described, component: Component, field: str, allowed: tuple[Any, ...], default: Any = None
) -> None:
    _check(checkpoint, checkpoint.place(component), field, checkpoint.config(component).get(field, default), allowed)


def _check(checkpoint: Described, place: Path, field: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        raise RealCompoError(
            f"{place} is not supported as {checkpoint.model} model: its {field} is {json.dumps(value)}, not "
            f"{' or '.join(map(json.dumps, allowed))}. {SUPPORTED}"
        )
