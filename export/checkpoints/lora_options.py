"""LoRAs as the command line gives them, looked at before anything is made of them."""

import math
from collections.abc import Sequence
from pathlib import Path

from export.checkpoints.files import check_place, is_file
from export.checkpoints.places import LORA
from export.checkpoints.source import is_weights
from export.pairs import Lora
from runtime.errors import RealCompoError


def parse_loras(given: Sequence[str]) -> tuple[Lora, ...]:
    """LoRAs from FILE or FILE:SCALE.

    Raises:
        RealCompoError: not a number, or not a file with a LoRA.
    """
    return tuple(map(_parse, given))


def _parse(given: str) -> Lora:
    file, separator, scale = given.rpartition(":")
    if not separator:
        file, scale = given, "1"
    try:
        lora = Lora(file, float(scale))
    except ValueError as error:
        raise RealCompoError(f"--lora {given}: {scale!r} is no scale; write FILE:SCALE, such as {file}:0.8") from error
    check_lora(lora)
    return lora


def check_lora(lora: Lora) -> None:
    """Raise RealCompoError if it is not there, or not a file with a LoRA, or its scale is no number."""
    path = Path(lora.file).expanduser()
    if not is_weights(path):
        raise RealCompoError(f"--lora {lora.file} is no file of weights, such as .safetensors")
    if not is_file(path):
        raise RealCompoError(f"--lora {lora.file}: the file does not exist")
    if not math.isfinite(lora.scale):
        raise RealCompoError(f"--lora {lora.file}:{lora.scale}: the scale is not finite; give a number, such as 0.8")
    check_place(path, LORA)
