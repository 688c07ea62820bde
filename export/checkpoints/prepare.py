"""What is made of checkpoints, inside the bundle's folder, before they are opened: random weights, diffusers folders of
single files, models with their LoRAs."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from export.checkpoints.hub import file_on_disk
from export.checkpoints.random_weights import with_random_weights
from export.checkpoints.single_file import convert_single_files
from export.pairs import Pair
from export.provenance import models_of

Say = Callable[[str], None]  # told what is being done
RANDOM_WEIGHTS, SINGLE_FILES, LORAS = "random-weights", "single-files", "loras"  # the folders that they are made in


class Prepared(NamedTuple):
    """A pair that can be opened, and all that was used on the way to it."""

    pair: Pair
    used: frozenset[Path]


def prepare(pair: Pair, out: Path, random_weights: bool, tokenizer: Path | None, say: Say) -> Prepared:
    """Make what a pair needs in the bundle's folder `out`, or find it there.

    Raises:
        RealCompoError: a model that cannot be made, see the modules that do.
    """
    filled = with_random_weights(pair, out / RANDOM_WEIGHTS, say) if random_weights else pair
    converted = convert_single_files(filled.with_models(file_on_disk), out / SINGLE_FILES, tokenizer, say)
    fused = _fused(converted, out / LORAS, say)
    models = {model for stage in (pair, filled, converted, fused) for model in models_of(stage)}
    return Prepared(fused, frozenset(map(Path, models)))


def _fused(pair: Pair, folder: Path, say: Say) -> Pair:
    if not pair.loras:
        return pair
    from transformers.utils import logging

    logging.set_verbosity_error()  # diffusers' pipelines want image processors, which warn of torchvision; we have none
    from export.checkpoints.lora import fuse_loras

    return fuse_loras(pair, folder, say)
