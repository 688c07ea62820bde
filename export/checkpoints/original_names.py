"""Weights of a single file under diffusers' names: the original code's, in whatever dictionary, or diffusers' own."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers.loaders.single_file_utils import (
    convert_controlnet_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors import SafetensorError, safe_open
from torch import Tensor

from export.words import Component
from runtime.errors import RealCompoError

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class _Place:
    """Where files have a component: what may stand before its weights' names, and weights that tell it is there."""

    prefixes: tuple[str, ...]
    tells: tuple[str, ...]
    constants: tuple[str, ...] = ()  # beginnings of names that stand among them and are no weights
    diffusers: str = "conv_in.weight"  # a name that diffusers alone has


_NO_WEIGHTS = ("logit_scale", "attn_mask")  # among open_clip's
_PLACES: dict[Component, _Place] = {
    "unet": _Place(
        ("model.diffusion_model.", "diffusion_model.", "model.", "unet.", ""),  # without "diffusion_model" in GLIGEN's
        ("input_blocks.0.0.weight", "conv_in.weight"),
    ),
    "vae": _Place(
        ("first_stage_model.", "autoencoder.", "vae.", ""),
        ("decoder.conv_in.weight",),
        ("loss.", "model_ema."),
        "decoder.up_blocks.0.resnets.0.norm1.weight",
    ),
    "text_encoder": _Place(
        (
            "cond_stage_model.model.",  # Stable Diffusion 2's, in open_clip's names
            *("cond_stage_model.transformer.", "conditioner.embedders.0.transformer."),
            *("text_encoder.transformer.", "cond_stage_model.", "text_encoder.", ""),
        ),
        (
            *("text_model.embeddings.token_embedding.weight", "embeddings.token_embedding.weight"),
            "token_embedding.weight",
        ),
        ("text_model.embeddings.position_ids", "embeddings.position_ids", *_NO_WEIGHTS),
    ),
    "text_encoder_2": _Place(("conditioner.embedders.1.model.",), ("token_embedding.weight",), _NO_WEIGHTS),
    "controlnet": _Place(("control_model.", ""), ("time_embed.0.weight", "conv_in.weight")),
}
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # of VAEs, until 2023
_SPLIT = re.compile(r"\.in_proj_|^text_projection$")  # what open_clip's converter takes apart or turns
_UNET_PREFIX, _VAE_PREFIX, _SECOND_PREFIX = (
    "model.diffusion_model.",
    "first_stage_model.",
    "conditioner.embedders.1.model.",
)


def read_component(file: Path, weights: Path, component: Component) -> Weights:
    """A component's tensors under the names that they have in the file, without a prefix; none if it has no such.

    Args:
        file: what the user gave.
        weights: the same as safetensors.

    Raises:
        RealCompoError: the file is damaged.
    """
    place = _PLACES[component]
    try:
        with safe_open(weights, framework="pt") as opened:
            names = list(opened.keys())
            prefix = _prefix(names, place.prefixes, place.tells)
            if prefix is None:
                return {}
            own = {name.removeprefix(prefix): name for name in names if name.startswith(prefix)}
            return {
                name: opened.get_tensor(there) for name, there in own.items() if not name.startswith(place.constants)
            }
    except (SafetensorError, OSError) as error:
        raise RealCompoError(f"{file} is damaged: {error}. Download it again") from error


def read_grounding(file: Path, weights: Path) -> Weights:
    """GLIGEN's own layers, of a file that has them alone; none if it has others."""
    prefixes = _PLACES["unet"].prefixes
    try:
        with safe_open(weights, framework="pt") as opened:
            names = list(opened.keys())
            prefix = _prefix(names, prefixes, ("position_net.null_positive_feature",))
            if prefix is None or not all(is_grounding(name.removeprefix(prefix)) for name in names):
                return {}
            return {name.removeprefix(prefix): opened.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise RealCompoError(f"{file} is damaged: {error}. Download it again") from error


def is_grounding(name: str) -> bool:
    """Whether a UNet's weight is one of GLIGEN's own."""
    return name.startswith("position_net.") or ".fuser." in name


def grounding_renamed(weights: Weights, layers: int) -> Weights:
    """GLIGEN's layers under diffusers' names, of a UNet with so many layers a block."""
    return {_grounding_name(name, layers): weight for name, weight in weights.items()}


def renamed(component: Component, weights: Weights, model: Any) -> Weights:
    """The weights under diffusers' names; such as it knows no name for, under their own."""
    if _PLACES[component].diffusers in weights:
        return {_today(name): weight for name, weight in weights.items()}
    match component:
        case "unet":
            prefixed = {f"{_UNET_PREFIX}{name}": weight for name, weight in weights.items()}
            converted = convert_ldm_unet_checkpoint(prefixed, model.config)
        case "vae":
            prefixed = {f"{_VAE_PREFIX}{name}": weight for name, weight in weights.items()}
            converted = convert_ldm_vae_checkpoint(prefixed, model.config)
        case "controlnet":
            converted = convert_controlnet_checkpoint(weights, model.config)
        case "text_encoder" if "token_embedding.weight" in weights:
            return _of_open_clip(_without_last_layer(weights, model), model)
        case "text_encoder":
            return _fitted(weights, model)
        case "text_encoder_2":
            return _of_open_clip(weights, model)
    return converted | _left_out(weights, converted)


def _of_open_clip(weights: Weights, model: Any) -> Weights:
    prefixed = {f"{_SECOND_PREFIX}{name}": weight for name, weight in weights.items()}
    converted = convert_open_clip_checkpoint(model, prefixed, _SECOND_PREFIX)
    whole = {name: weight for name, weight in weights.items() if not _SPLIT.search(name)}
    return _fitted(converted | _left_out(whole, converted), model)


def _without_last_layer(weights: Weights, model: Any) -> Weights:
    """Stable Diffusion 2 takes what the last layer but one sees, and no projection; files have both nevertheless."""
    unused = (f"transformer.resblocks.{model.config.num_hidden_layers}.", "text_projection")
    return {name: weight for name, weight in weights.items() if not name.startswith(unused)}


def _prefix(names: Iterable[str], prefixes: Iterable[str], tells: Iterable[str]) -> str | None:
    there = set(names)
    return next((prefix for prefix in prefixes if any(f"{prefix}{tell}" in there for tell in tells)), None)


def _left_out(weights: Weights, converted: Weights) -> Weights:
    """What a converter dropped: GLIGEN's position_net, which has the same name in diffusers, and what is unknown."""
    used = {weight.data_ptr() for weight in converted.values()}
    return {name: weight for name, weight in weights.items() if weight.data_ptr() not in used}


def _today(name: str) -> str:
    """diffusers' name of today, for one of an old VAE's."""
    return re.sub(
        rf"(\.attentions\.\d+\.)({'|'.join(_OLD_ATTENTION)})\.", lambda m: f"{m[1]}{_OLD_ATTENTION[m[2]]}.", name
    )


def _fitted(weights: Weights, model: Any) -> Weights:
    """CLIP's weights with or without `text_model.`, as this version of transformers has them."""
    wanted = model.state_dict().keys()

    def fit(name: str) -> str:
        bare = name.removeprefix("text_model.")
        return next((fitting for fitting in (name, bare, f"text_model.{bare}") if fitting in wanted), name)

    return {fit(name): weight for name, weight in weights.items()}


def _grounding_name(name: str, layers: int) -> str:
    match = re.fullmatch(r"(input_blocks|output_blocks|middle_block)\.(\d+)(?:\.1)?\.(transformer_blocks\..*)", name)
    if match is None:
        return name  # position_net, or diffusers' name
    way, index, rest = match[1], int(match[2]), match[3]
    if way == "middle_block":
        return f"mid_block.attentions.0.{rest}"
    block, layer = divmod(index - 1 if way == "input_blocks" else index, layers + 1)
    return f"{'down' if way == 'input_blocks' else 'up'}_blocks.{block}.attentions.{layer}.{rest}"
