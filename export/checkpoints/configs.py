"""Configs as they are found: older names of fields, and the libraries' defaults of those that are missing."""

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from transformers import CLIPTextConfig

from export.words import Component

_CLASSES: dict[Component, type] = {
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
    "controlnet": ControlNetModel,
}
_GATED = ("use_gated_attention", "enable_gligen")  # what attention_type was called before it had its name


def complete(component: Component, config: Mapping[str, Any]) -> dict[str, Any]:
    """A component's config with every field that its class knows, and no others but what `_` begins."""
    described = _renamed(component, config)
    known = {name: value for name, value in described.items() if name in _defaults(component) or name.startswith("_")}
    return {**_defaults(component), **(known if component in _CLASSES else described)}


def public(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config without what diffusers notes about it."""
    return {name: value for name, value in config.items() if not name.startswith("_")}


def native_size(unet: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width in latent pixels that a UNet was trained at, if its config says so."""
    match unet.get("sample_size"):
        case int(size) | [int(size)]:
            return size, size
        case [int(height), int(width)]:
            return height, width
    return None


def _renamed(component: Component, config: Mapping[str, Any]) -> Mapping[str, Any]:
    if component == "unet" and any(config.get(name) for name in _GATED) and "attention_type" not in config:
        return {**config, "attention_type": "gated"}
    return config


@cache
def _defaults(component: Component) -> Mapping[str, Any]:
    if component not in _CLASSES:
        return {"model_type": CLIPTextConfig.model_type, **CLIPTextConfig().to_dict()}
    parameters = inspect.signature(_CLASSES[component]).parameters.values()
    return {one.name: _listed(one.default) for one in parameters if one.default is not inspect.Parameter.empty}


def _listed(value: Any) -> Any:
    """As JSON has it."""
    return list(value) if isinstance(value, tuple) else value
