"""GLIGEN (Li et al., arXiv 2301.07093): a UNet of its own with gates for boxes and phrases."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from export.checkpoints.folders import Checkpoint, Checkpoints, open_checkpoint, open_weights
from export.checkpoints.supported import check_field, check_unet
from export.graphs.engine import (
    Engine,
    Loader,
    Source,
    Specs,
    always_fp32,
    denoiser_inputs,
    gradients,
    image_rows,
    predictions,
    regions,
    tensor,
    unet_rows,
)
from export.graphs.geometry import Geometry
from export.graphs.gradient import AttentionGradient
from export.graphs.models import Grounding, Spatial
from export.pairs import Pair
from export.spatial.kind import SpatialKind
from runtime.errors import RealCompoError
from runtime.words import MAX_REGIONS


def _object_tokens(geometry: Geometry) -> Specs:
    return (tensor("object_tokens", MAX_REGIONS, geometry.text_width),)


def _inputs(geometry: Geometry) -> Specs:
    return *denoiser_inputs(geometry), *_object_tokens(geometry), tensor("grounding_scale")


def _placed(geometry: Geometry) -> Specs:
    boxes, phrases = tensor("boxes", MAX_REGIONS, 4), tensor("phrase_embeddings", MAX_REGIONS, geometry.text_width)
    return boxes, phrases, tensor("masks", MAX_REGIONS)


def _spatial(load: Loader) -> Spatial:
    return Spatial(load.unet("spatial"), load.map_layers("spatial"), load.noise_of())


class Gligen(SpatialKind):
    name = "gligen"
    engines = (
        Engine(
            role="spatial",
            sources=(Source("spatial", "unet"),),
            inputs=_inputs,
            outputs=predictions,
            graph=_spatial,
            rows=unet_rows,
            model="spatial",
            alone=True,
        ),
        Engine(
            role="spatial_gradient",
            sources=(Source("spatial", "unet"),),
            inputs=lambda geometry: (*_inputs(geometry), *regions(geometry)),
            outputs=gradients,
            graph=lambda load: AttentionGradient(_spatial(load), load.loss_scale),
            rows=image_rows,
            model="spatial",
        ),
        Engine(
            role="grounding",
            sources=(Source("spatial", "unet", ("position_net.",)),),
            inputs=_placed,
            outputs=_object_tokens,
            graph=lambda load: Grounding(load.unet("spatial").position_net),
            rows=unet_rows,
            precision=always_fp32,  # in no time, once an image; and it takes sines of up to 100 times a coordinate
        ),
    )

    def replace(self, pair: Pair, given: Sequence[str]) -> Pair:
        if len(given) > 1:
            raise RealCompoError(
                f"--spatial is given {len(given)} times; {pair.name} has GLIGEN as spatial model, so give one"
            )
        return replace(pair, spatial=given[0]) if given else pair

    def open(self, pair: Pair, base: Checkpoint, download: bool) -> Checkpoints:
        spatial = open_checkpoint("spatial", pair.spatial, ("unet",), download, pair.fp16_files)
        return Checkpoints(self.name, base, spatial)

    def check(self, checkpoints: Checkpoints) -> None:
        base, spatial = checkpoints.text_to_image, checkpoints.spatial
        check_unet(spatial, base)
        check_field(spatial, "unet", "attention_type", ("gated",), default="default")
        check_field(spatial, "unet", "addition_embed_type", (None,))
        check_field(spatial, "unet", "sample_size", (base.config("unet")["sample_size"],))

    def shares_unet(self, checkpoints: Checkpoints) -> bool:
        """Whether every weight but GLIGEN's own is the text-to-image model's: GLIGEN trains its own layers alone, so
        that this holds for the model it was made from."""
        base, grounded = (open_weights(checkpoints.of(model), "unet") for model in ("text_to_image", "spatial"))
        if set(base) != {name for name in grounded if not _is_grounding(name)}:
            return False
        return all(torch.equal(base[name](), grounded[name]()) for name in base)  # stops at the first that differs


def _is_grounding(name: str) -> bool:
    return name.startswith("position_net.") or ".fuser." in name
