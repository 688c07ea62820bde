"""The table of engines: what every pair has, and what its kind of spatial model adds."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import nn

from export.checkpoints.folders import (
    Checkpoints,
    load_attached,
    load_text_encoder,
    load_unet,
    load_vae,
)
from export.families import FAMILIES
from export.graphs.engine import (
    Engine,
    Signature,
    Source,
    Specs,
    denoiser,
    denoiser_inputs,
    differentiated,
    image_rows,
    latents,
    tensor,
    text,
    text_rows,
)
from export.graphs.geometry import Geometry
from export.graphs.models import NoiseOfEpsilon, NoiseOfVelocity, TextToImage, VaeDecoder
from export.spatial import KINDS
from runtime.words import ROLES, Model, Precision, Role

VERIFIED_PIXELS = 512 * 512  # a decoder's norms of more lose digits in ONNX Runtime


def _token_ids(geometry: Geometry) -> Specs:
    encoders = range(len(FAMILIES[geometry.family].text_encoders))
    return tuple(
        tensor(f"input_ids_{i + 1}" if i else "input_ids", geometry.max_tokens, dtype="int64") for i in encoders
    )


def _encoded(geometry: Geometry) -> Specs:
    pooled = tensor("pooled_output", geometry.pooled_width)
    if geometry.phrase_width == geometry.pooled_width:  # then they are the same
        return text(geometry), pooled
    return text(geometry), pooled, tensor("phrase_embedding", geometry.phrase_width)


def _images(geometry: Geometry) -> Specs:
    return (tensor("images", 3, *geometry.image_size),)


def _text_to_image(load: Any) -> TextToImage:
    return TextToImage(load.unet("text_to_image"), load.map_layers("text_to_image"), load.noise_of())


def _decoder_precision(precision: Precision, geometry: Geometry) -> Precision:
    return "fp32" if geometry.wide_vae and precision == "fp16" else precision


TABLE: dict[Role, Engine] = {
    engine.role: engine
    for engine in (
        Engine(
            role="text_encoder",
            sources=(Source("text_to_image", "text_encoder"), Source("text_to_image", "text_encoder_2")),
            inputs=_token_ids,
            outputs=_encoded,
            graph=lambda load: load.text_encoder(),
            rows=text_rows,
        ),
        denoiser("text_to_image", "text_to_image", denoiser_inputs, _text_to_image),
        differentiated("text_to_image_gradient", "text_to_image", denoiser_inputs, _text_to_image),
        Engine(
            role="vae_decoder",
            sources=(Source("text_to_image", "vae", ("decoder.", "post_quant_conv.")),),
            inputs=lambda geometry: (latents(geometry),),
            outputs=_images,
            graph=lambda load: VaeDecoder(load.vae()),
            rows=image_rows,
            precision=_decoder_precision,
            most_pixels=VERIFIED_PIXELS,
        ),
    )
}


def engines_of(kind: str, shared_unet: bool = False) -> dict[Role, Engine]:
    """The engines of a bundle, in the order in which they are built.

    Where both models have one UNet, the spatial one's engines do the other's work.
    """
    rows: Mapping[Role, Engine] = TABLE | {engine.role: engine for engine in KINDS[kind].engines}
    ordered = {role: rows[role] for role in ROLES if role in rows}
    if not shared_unet:
        return ordered
    return {role: engine for role, engine in ordered.items() if engine.model != "text_to_image"}


def engine_of(role: Role, geometry: Geometry) -> Engine:
    return engines_of(geometry.kind)[role]


def signature(role: Role, geometry: Geometry) -> Signature:
    """The inputs and outputs of a role's graph."""
    return engine_of(role, geometry).signature(geometry)


def load_graph(
    role: Role,
    checkpoints: Checkpoints,
    geometry: Geometry,
    loss_scale: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> nn.Module:
    """A role's graph with the checkpoints' weights, in evaluation mode.

    Args:
        dtype: of the weights of UNets and ControlNets, but for their norms; all else is in fp32.
    """
    return engine_of(role, geometry).graph(_Loader(checkpoints, geometry, loss_scale, dtype)).eval()


@dataclass
class _Loader:
    """From the checkpoints of a pair; see `graphs.engine.Loader`."""

    checkpoints: Checkpoints
    geometry: Geometry
    loss_scale: float
    dtype: torch.dtype  # of UNets and what is attached to them, but for norms

    def unet(self, model: Model) -> UNet2DConditionModel:
        return load_unet(self.checkpoints.of(model), self.dtype)

    def attached(self) -> list[Any]:
        found, loaded = self.checkpoints, dict[Path, Any]()
        for one in found.attached:  # one that reads several kinds is loaded once
            loaded[one.folder] = loaded.get(one.folder) or load_attached(one, self.dtype, found.attached_as)
        return [loaded[one.folder] for one in found.attached]

    def text_encoder(self) -> nn.Module:
        base = self.checkpoints.text_to_image
        return base.family.text_graph(*(load_text_encoder(base, name) for name in base.family.text_encoders))

    def vae(self) -> Any:
        return load_vae(self.checkpoints.text_to_image)

    def map_layers(self, model: Model) -> tuple[str, ...]:
        return self.geometry.map_layers[model]

    def noise_of(self) -> nn.Module:
        scheduler = self.geometry.scheduler
        if scheduler.get("prediction_type", "epsilon") == "epsilon":
            return NoiseOfEpsilon()
        return NoiseOfVelocity(DDIMScheduler.from_config(scheduler).alphas_cumprod)
