"""GLIGEN (Li et al., arXiv 2301.07093): a UNet of its own with gates for boxes and phrases."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from export.checkpoints.configs import native_size
from export.checkpoints.files import check_place
from export.checkpoints.folders import Checkpoint, Checkpoints, open_checkpoint, open_weights
from export.checkpoints.original_names import is_grounding
from export.checkpoints.places import GLIGEN
from export.checkpoints.supported import check_field, check_unet
from export.graphs.engine import (
    Engine,
    Loader,
    Source,
    Specs,
    always_fp32,
    denoiser,
    denoiser_inputs,
    differentiated,
    tensor,
    unet_rows,
)
from export.graphs.geometry import Geometry
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
    boxes, phrases = tensor("boxes", MAX_REGIONS, 4), tensor("phrase_embeddings", MAX_REGIONS, geometry.phrase_width)
    return boxes, phrases, tensor("masks", MAX_REGIONS)


TEXT_AND_IMAGE = "gated-text-image"  # attention_type of the GLIGEN whose objects may be given as pictures


def _check_phrases(spatial: Checkpoint, base: Checkpoint) -> None:
    """Its position net takes phrases that are as wide as the text that the UNet attends to."""
    width = base.family.text_sizes(base.configs).phrase_width
    check_field(spatial, "unet", "cross_attention_dim", (width,))


def _spatial(load: Loader) -> Spatial:
    return Spatial(load.unet("spatial"), load.map_layers("spatial"), load.noise_of())


class Gligen(SpatialKind):
    name = "gligen"
    engines = (
        denoiser("spatial", "spatial", _inputs, _spatial, alone=True),
        differentiated("spatial_gradient", "spatial", _inputs, _spatial),
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
        for model in given:
            check_place(Path(model).expanduser(), GLIGEN)
        return replace(pair, spatial=given[0]) if given else pair

    def open(self, pair: Pair, base: Checkpoint, download: bool) -> Checkpoints:
        spatial = open_checkpoint("spatial", pair.spatial, ("unet",), download, pair.fp16_files)
        return Checkpoints(self.name, base, spatial)

    def check(self, checkpoints: Checkpoints) -> None:
        base, spatial = checkpoints.text_to_image, checkpoints.spatial
        if spatial.config("unet")["attention_type"] == TEXT_AND_IMAGE:
            raise RealCompoError(
                f"{spatial.place('unet')} is a GLIGEN of texts and images, which is not supported: a layout has no "
                "pictures of objects. Give one of texts and boxes, whose attention_type is gated"
            )
        check_unet(spatial, base)
        check_field(spatial, "unet", "attention_type", ("gated",), default="default")
        _check_phrases(spatial, base)
        sizes = [native_size(checkpoint.config("unet")) for checkpoint in (base, spatial)]
        if None not in sizes and sizes[0] != sizes[1]:
            check_field(spatial, "unet", "sample_size", (base.config("unet")["sample_size"],))

    def shares_unet(self, checkpoints: Checkpoints) -> bool:
        """Whether every weight but GLIGEN's own is the text-to-image model's: GLIGEN trains its own layers alone, so
        that this holds for the model it was made from."""
        base, grounded = (open_weights(checkpoints.of(model), "unet") for model in ("text_to_image", "spatial"))
        if set(base) != {name for name in grounded if not is_grounding(name)}:
            return False
        return all(torch.equal(base[name](), grounded[name]()) for name in base)  # stops at the first that differs
