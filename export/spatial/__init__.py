"""Kinds of spatial model: one file and one row of `KINDS` each."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from export.checkpoints.files import check_place
from export.checkpoints.folders import Checkpoints, open_text_to_image
from export.checkpoints.places import TEXT_TO_IMAGE
from export.checkpoints.supported import check_base
from export.pairs import Pair, known_pair
from export.spatial.controlnet import ControlNets
from export.spatial.gligen import Gligen
from export.spatial.kind import SpatialKind
from export.spatial.t2i_adapter import T2IAdapterKind

KINDS: dict[str, SpatialKind] = {kind.name: kind for kind in (Gligen(), ControlNets(), T2IAdapterKind())}


def open_checkpoints(pair: Pair, *, download: bool = True) -> Checkpoints:
    """Find the models of a pair and check, before any weight is read, that they are there and whole.

    Raises:
        RealCompoError: a model cannot be had, lacks a file, or has an architecture that is not supported.
    """
    kind = KINDS[pair.kind]
    base = open_text_to_image(pair.text_to_image, download=download, fp16_files=pair.fp16_files)
    checkpoints = kind.open(pair, base, download)
    check_base(checkpoints.text_to_image)
    kind.check(checkpoints)
    return checkpoints


def share_unet(checkpoints: Checkpoints) -> bool:
    """Whether one UNet serves both models, the text-to-image one being told of no layout."""
    return KINDS[checkpoints.kind].shares_unet(checkpoints)


def find_pair(name: str, text_to_image: str | None = None, spatial: Sequence[str] = ()) -> Pair:
    """The pair called `name`, with one or both of its models replaced.

    Args:
        spatial: models as --spatial names them; how, the pair's kind says.

    Raises:
        RealCompoError: no pair has that name, or it takes no such models.
    """
    pair = known_pair(name)
    if text_to_image:
        check_place(Path(text_to_image).expanduser(), TEXT_TO_IMAGE)
    if text_to_image or spatial:
        pair = replace(pair, recommended=None)
    return KINDS[pair.kind].replace(pair.with_base(text_to_image or pair.text_to_image), spatial)
