"""Configs as they are found: older names of fields, and the libraries' defaults of those that are missing."""

import inspect
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
from diffusers import AutoencoderKL, ControlNetModel, ControlNetUnionModel, T2IAdapter, UNet2DConditionModel
from transformers import CLIPTextConfig

from export.words import Component
from runtime.errors import RealCompoError

_CLASSES: dict[Component, type] = {
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
    "controlnet": ControlNetModel,
    "adapter": T2IAdapter,
}
_UNION = "num_control_type"  # a field of a ControlNet that reads several kinds
_NOISE = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type")  # of a scheduler
_GATED = ("use_gated_attention", "enable_gligen")  # what attention_type was called before it had its name


def complete(component: Component, config: Mapping[str, Any]) -> dict[str, Any]:
    """A component's config with every field that its class knows, and no others but what `_` begins."""
    described, kind = _renamed(component, config), class_of(component, config)
    defaults = _signature(kind) if kind else _text_defaults()
    known = {name: value for name, value in described.items() if name in defaults or name.startswith("_")}
    return {**defaults, **(known if kind else described)}


def class_of(component: Component, config: Mapping[str, Any]) -> Any | None:
    """diffusers' class of a component with this config; None of text encoders."""
    return ControlNetUnionModel if component == "controlnet" and _UNION in config else _CLASSES.get(component)


def public(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config without what diffusers notes about it."""
    return {name: value for name, value in config.items() if not name.startswith("_")}


def complete_schedule(scheduler: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """A scheduler's config with its own class's defaults of the noise. Its defaults of other things are no choice of
    the model's, and stay out.

    Raises:
        RealCompoError: its noise is no diffusion's with betas, such as flow matching's.
    """
    name = scheduler.get("_class_name")
    known = getattr(diffusers, name, None) if isinstance(name, str) else None
    defaults = _signature(known) if isinstance(known, type) else {}
    if name is not None and "beta_schedule" not in {*defaults, *scheduler}:
        raise RealCompoError(
            f"{file} is not supported: a {name} has no beta_schedule, and Stable Diffusion is trained with one"
        )
    noise = {field: defaults[field] for field in _NOISE if field in defaults}
    return {**noise, **{field: value for field, value in scheduler.items() if value is not None or field not in noise}}


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
def _text_defaults() -> Mapping[str, Any]:
    return {"model_type": CLIPTextConfig.model_type, **CLIPTextConfig().to_dict()}


@cache
def _signature(kind: type) -> Mapping[str, Any]:
    """The defaults of a class's settings."""
    parameters = inspect.signature(kind).parameters.values()
    return {one.name: _listed(one.default) for one in parameters if one.default is not inspect.Parameter.empty}


def _listed(value: Any) -> Any:
    """As JSON has it."""
    return list(value) if isinstance(value, tuple) else value
