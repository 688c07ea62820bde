"""diffusers' own pipelines of either model."""

from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionGLIGENPipeline, StableDiffusionPipeline
from transformers import AutoTokenizer

from benchmarks.eager.loading import caster
from benchmarks.eager.settings import make_scheduler
from export.checkpoints.folders import Checkpoint, load_text_encoder, load_unet, load_vae
from runtime.words import Model

UNCHECKED: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def stock_text_to_image(
    text_to_image: Path | str, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> StableDiffusionPipeline:
    """diffusers' own pipeline of the text-to-image model."""
    base = _checkpoint("text_to_image", text_to_image)
    return _quiet(StableDiffusionPipeline(**_components(base, base, dtype, device), **UNCHECKED))


def stock_spatial(
    text_to_image: Path | str,
    spatial: Path | str,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> StableDiffusionGLIGENPipeline:
    """diffusers' own GLIGEN pipeline of the spatial model, with the other's text encoder and VAE."""
    base, grounded = _checkpoint("text_to_image", text_to_image), _checkpoint("spatial", spatial)
    return _quiet(StableDiffusionGLIGENPipeline(**_components(base, grounded, dtype, device), **UNCHECKED))


def _checkpoint(model: Model, folder: Path | str) -> Checkpoint:
    return Checkpoint(model, str(folder), None, Path(folder))


def _components(
    base: Checkpoint, unet_of: Checkpoint, dtype: torch.dtype, device: torch.device | str
) -> dict[str, Any]:
    """A pipeline's parts, put together here because a folder of random weights has no model_index.json."""
    cast = caster(dtype, device)
    text_encoder = cast(load_text_encoder(base))
    tokenizer = AutoTokenizer.from_pretrained(base.folder / "tokenizer")
    tokenizer.model_max_length = min(tokenizer.model_max_length, text_encoder.config.max_position_embeddings)
    return {
        "vae": cast(load_vae(base)),
        "text_encoder": text_encoder,
        "tokenizer": tokenizer,
        "unet": cast(load_unet(unet_of)),
        "scheduler": make_scheduler("plms", base.read_json("scheduler/scheduler_config.json")),
    }


def _quiet(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
