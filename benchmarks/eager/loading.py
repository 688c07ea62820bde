"""The parts of a pair, loaded from checkpoints to one element type and device."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, T2IAdapter, UNet2DConditionModel
from torch.nn import Module
from transformers import AutoTokenizer

from benchmarks.eager.texts import SecondText, Texts
from export.checkpoints.folders import (
    Checkpoint,
    load_attached,
    load_text_encoder,
    load_unet,
    load_vae,
)
from export.families.sdxl import SDXL
from export.pairs import Control, Pair
from export.spatial import KINDS, open_checkpoints
from runtime.words import MODELS, Model

Cast = Callable[[Any], Any]


@dataclass(frozen=True)
class Parts:
    unets: Mapping[Model, UNet2DConditionModel]
    vae: AutoencoderKL
    texts: Texts
    scheduler_config: dict[str, Any]
    attached: Mapping[str, ControlNetModel | T2IAdapter]  # all of one form; none where GLIGEN is spatial
    latent_size: tuple[int, int]  # (h,w)


def caster(dtype: torch.dtype, device: torch.device | str) -> Cast:
    return partial(Module.to, dtype=dtype, device=device)  # diffusers' own `to` warns


def load_parts(
    text_to_image: Path | str,
    spatial: Path | str,
    cast: Cast,
    controls: Sequence[Control],
    latent_size: tuple[int, int] | None,
) -> Parts:
    """See `EagerRealCompo.load`."""
    checkpoints = open_checkpoints(_pair(str(text_to_image), str(spatial), controls), download=False)
    base = checkpoints.text_to_image
    unets = {model: cast(load_unet(checkpoints.of(model))) for model in MODELS}
    vae, size = cast(load_vae(base)), latent_size or (unets["text_to_image"].config.sample_size,) * 2
    return Parts(
        unets,
        vae,
        _load_texts(base, cast, _image_size(vae, size)),
        base.read_json("scheduler/scheduler_config.json"),
        {one.kind: cast(_load(model, one)) for model, one in zip(checkpoints.attached, controls, strict=True)},
        size,
    )


def _load(checkpoint: Checkpoint, control: Control) -> Any:
    return load_attached(checkpoint, component=control.component)


def _pair(text_to_image: str, spatial: str, controls: Sequence[Control]) -> Pair:
    forms = {control.component for control in controls}
    kind = next(kind.name for kind in KINDS.values() if kind.component in (forms or {"unet"}))
    return Pair("eager", text_to_image, spatial, "", kind, tuple(controls))


def _image_size(vae: AutoencoderKL, latent_size: tuple[int, int]) -> tuple[int, int]:
    """(H,W)."""
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    return latent_size[0] * factor, latent_size[1] * factor


def _load_texts(base: Checkpoint, cast: Cast, image_size: tuple[int, int]) -> Texts:
    encoder, tokenizer = cast(load_text_encoder(base)), AutoTokenizer.from_pretrained(base.folder / "tokenizer")
    return Texts(encoder, tokenizer, image_size, _load_second(base, cast) if base.family is SDXL else None)


def _load_second(base: Checkpoint, cast: Cast) -> SecondText:
    tokenizer = AutoTokenizer.from_pretrained(base.folder / "tokenizer_2")
    return SecondText(cast(load_text_encoder(base, "text_encoder_2")), tokenizer)
