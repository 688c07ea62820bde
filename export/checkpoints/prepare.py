"""What is made of checkpoints, inside the bundle's folder, before they are opened: random weights, safetensors of
pickles, diffusers folders of single files, models with their LoRAs."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from export.checkpoints.hub import file_on_disk
from export.checkpoints.pickled_folders import convert_pickled_folders
from export.checkpoints.pickles import as_safetensors, converted_place
from export.checkpoints.random_weights import with_random_weights
from export.checkpoints.single_file import convert_single_files
from export.checkpoints.source import is_pickle
from export.pairs import Pair
from export.provenance import models_of
from runtime.errors import RealCompoError
from runtime.messages import shown

Say = Callable[[str], None]  # told what is being done
# The folders that they are made in
RANDOM_WEIGHTS, CONVERTED, SINGLE_FILES, LORAS = "random-weights", "converted", "single-files", "loras"


class Prepared(NamedTuple):
    """A pair that can be opened, and all that was used on the way to it."""

    pair: Pair
    used: frozenset[Path]


def prepare(
    pair: Pair, out: Path, random_weights: bool, tokenizer: Path | None, say: Say, vae: Path | None = None
) -> Prepared:
    """Make what a pair needs in the bundle's folder `out`, or find it there.

    Raises:
        RealCompoError: a model that cannot be made, see the modules that do.
    """
    filled = with_random_weights(pair, out / RANDOM_WEIGHTS, say) if random_weights else pair
    on_disk = filled.with_models(file_on_disk)
    unpickled = convert_pickled_folders(on_disk, out / CONVERTED, say)
    converted = convert_single_files(unpickled, out / SINGLE_FILES, tokenizer, say, vae=vae)
    fused = _fused(converted, out, say)
    stages = (pair, filled, on_disk, unpickled, converted, fused)
    models = {Path(model) for stage in stages for model in models_of(stage)}
    safe = {
        converted_place(model, out / CONVERTED)
        for model in (*models, *_files(pair))
        if is_pickle(model) and model.is_file()
    }
    return Prepared(fused, frozenset(models | safe))


def _fused(pair: Pair, out: Path, say: Say) -> Pair:
    if not pair.loras:
        return pair
    from export.checkpoints.lora import fuse_loras

    safe = {file: as_safetensors(file, out / CONVERTED, say) for file in _files(pair) if is_pickle(file)}
    loras = (replace(lora, file=str(safe.get(Path(lora.file).expanduser(), lora.file))) for lora in pair.loras)
    try:
        return fuse_loras(replace(pair, loras=tuple(loras)), out / LORAS, say)
    except RealCompoError as error:
        raise RealCompoError(_named_as_given(str(error), safe)) from error


def _files(pair: Pair) -> list[Path]:
    return [Path(lora.file).expanduser() for lora in pair.loras]


def _named_as_given(message: str, safe: Mapping[Path, Path]) -> str:
    for given, converted in safe.items():
        message = message.replace(str(converted), str(given)).replace(shown(converted), shown(given))
    return message
