"""Which architectures the exporter knows, told from checkpoints' configs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from export.checkpoints.folders import Checkpoint
from export.families import FAMILIES, family_of
from export.words import Component
from runtime.errors import RealCompoError
from runtime.sampling import SAMPLERS, unable

SUPPORTED = (
    "Supported are pairs shaped like Stable Diffusion 1.x, 2.x and SDXL, with GLIGEN's boxes, ControlNets or "
    "T2I-Adapters"
)
_SHOWN = 80  # characters of a list of values

Rules = Mapping[str, tuple[Any, ...]]  # config field: what is supported, first of all the class's default

_DOWN_BLOCKS, _UP_BLOCKS = (
    tuple(name.format(way) for name in ("CrossAttn{}Block2D", "{}Block2D")) for way in ("Down", "Up")
)
_DENOISER_RULES: Rules = {  # of UNets and ControlNets
    "in_channels": (4,),
    "only_cross_attention": (False,),
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
    "addition_embed_type": tuple(dict.fromkeys(family.embed_type for family in FAMILIES.values())),
    "encoder_hid_dim_type": (None,),
}
_UNET_RULES: Rules = {
    "_class_name": ("UNet2DConditionModel",),
    "out_channels": (4,),
    "attention_type": ("default", "gated"),
    "dual_cross_attention": (False,),
    "time_cond_proj_dim": (None,),
    "mid_block_type": ("UNetMidBlock2DCrossAttn",),
    **_DENOISER_RULES,
}
_CONTROLNET_RULES: Rules = {
    "_class_name": ("ControlNetModel", "ControlNetUnionModel", "ControlNetModel_Union"),
    "mid_block_type": ("UNetMidBlock2DCrossAttn", "UNetMidBlock2D"),  # small ones have no attention
    "conditioning_channels": (3,),
    "controlnet_conditioning_channel_order": ("rgb",),
    **_DENOISER_RULES,
}
_ADAPTER_RULES: Rules = {
    "_class_name": ("T2IAdapter",),
    "adapter_type": ("full_adapter", "full_adapter_xl", "light_adapter"),
    "in_channels": (3, 1),
}
_VAE_RULES: Rules = {
    "_class_name": ("AutoencoderKL",),
    "latent_channels": (4,),
    "out_channels": (3,),
    "shift_factor": (None,),
}
_OF_THE_UNET = (  # what a ControlNet takes and adds has to fit
    *("block_out_channels", "layers_per_block"),
    *("addition_embed_type", "addition_time_embed_dim", "projection_class_embeddings_input_dim"),
)


def check_base(base: Checkpoint) -> None:
    """Raise RealCompoError for the first thing of a text-to-image model that is not supported."""
    check_unet(base, base)
    _check_rules(base, "vae", _VAE_RULES)
    _check_rules(base, "text_encoder", {"model_type": ("clip_text_model",)})
    for rule in base.family.rules(base.configs):
        check_field(base, rule.component, rule.field, rule.allowed, default=rule.allowed[0])
    _check_schedule(base)


def _check_schedule(base: Checkpoint) -> None:
    """That some sampler can draw with it; which ones cannot, the build says."""
    place, schedule = base.place("unet").with_name("scheduler"), base.schedule()
    _check(base, place, "prediction_type", schedule.get("prediction_type", "epsilon"), ("epsilon", "v_prediction"))
    refusals = unable(schedule)
    if len(refusals) == len(SAMPLERS):
        raise RealCompoError(f"no sampler can draw with {place}: {next(iter(refusals.values()))}")


def check_unet(checkpoint: Checkpoint, base: Checkpoint) -> None:
    """Raise RealCompoError for the first thing of a UNet that is not supported, or does not fit the text encoders."""
    _check_family(checkpoint, "unet", base)
    _check_rules(checkpoint, "unet", _UNET_RULES)
    _check_blocks(checkpoint, "unet", "down_block_types", _DOWN_BLOCKS)
    _check_blocks(checkpoint, "unet", "up_block_types", _UP_BLOCKS)
    _check_text_width(checkpoint, "unet", base)


def check_controlnet(controlnet: Checkpoint, base: Checkpoint) -> None:
    """Raise RealCompoError for the first thing of a ControlNet that is not supported, or does not fit the UNet."""
    _check_family(controlnet, "controlnet", base)
    _check_rules(controlnet, "controlnet", _CONTROLNET_RULES)
    _check_blocks(controlnet, "controlnet", "down_block_types", _DOWN_BLOCKS)
    _check_text_width(controlnet, "controlnet", base)
    for field in _OF_THE_UNET:
        check_field(controlnet, "controlnet", field, (base.config("unet").get(field),))
    levels = len(base.config("vae")["block_out_channels"])
    embedding = controlnet.config("controlnet")["conditioning_embedding_out_channels"]
    place = controlnet.place("controlnet")
    _check(controlnet, place, "number of conditioning_embedding_out_channels", len(embedding), (levels,))


def check_adapter(adapter: Checkpoint) -> None:
    """Raise RealCompoError for the first thing of a T2I-Adapter that is not supported."""
    _check_rules(adapter, "adapter", _ADAPTER_RULES)


def _check_family(checkpoint: Checkpoint, component: Component, base: Checkpoint) -> None:
    """That both are of one family, where the model is of a known one."""
    config, family = checkpoint.config(component), family_of(checkpoint.config(component))
    if family is not base.family and config.get("addition_embed_type") == family.embed_type:
        raise RealCompoError(
            f"{checkpoint.source} is made for {family.title}, and the text-to-image model {base.source} is "
            f"{base.family.title}: a pair is of one family. Replace one of them, with --spatial or --text-to-image"
        )


def _check_text_width(checkpoint: Checkpoint, component: Component, base: Checkpoint) -> None:
    width = sum(base.config(encoder)["hidden_size"] for encoder in base.family.text_encoders)
    check_field(checkpoint, component, "cross_attention_dim", (width,))


def _check_blocks(checkpoint: Checkpoint, component: Component, field: str, allowed: tuple[str, ...]) -> None:
    for block in checkpoint.config(component)[field]:
        _check(checkpoint, checkpoint.place(component), field, block, allowed)


def _check_rules(checkpoint: Checkpoint, component: Component, rules: Rules) -> None:
    for field, allowed in rules.items():
        check_field(checkpoint, component, field, allowed, default=allowed[0])


def check_field(
    checkpoint: Checkpoint, component: Component, field: str, allowed: tuple[Any, ...], default: Any = None
) -> None:
    """Raise RealCompoError if a config's field, or the default where it is missing, is none of the allowed values."""
    _check(checkpoint, checkpoint.place(component), field, checkpoint.config(component).get(field, default), allowed)


def _check(checkpoint: Checkpoint, place: Path, field: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        raise RealCompoError(
            f"{place} is not supported as {checkpoint.model} model: its {field} is {_shown([value])}, not "
            f"{_shown(allowed)}. {SUPPORTED}"
        )


def _shown(values: Sequence[Any]) -> str:
    text = " or ".join(map(json.dumps, values))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
