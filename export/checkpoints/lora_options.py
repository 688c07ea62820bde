"""LoRAs as the command line gives them, looked at before anything is made of them."""

import math
from collections.abc import Sequence
from pathlib import Path

from export.checkpoints.files import check_place, is_file
from export.checkpoints.places import LORA
from export.checkpoints.source import is_weights
from export.pairs import Lora
from runtime.bundle.manifest import TARGETS, Target
from runtime.errors import RealCompoError


def parse_loras(given: Sequence[str]) -> tuple[Lora, ...]:
    """LoRAs from FILE[:SCALE][@TARGET].

    Raises:
        RealCompoError: not a number, or not a file with a LoRA.
    """
    return tuple(map(_parse, given))


def _parse(given: str) -> Lora:
    before, into = _target(given)
    file, separator, scale = before.rpartition(":")
    if not separator:
        file, scale = before, "1"
    try:
        lora = Lora(file, float(scale), into)
    except ValueError as error:
        raise RealCompoError(f"--lora {given}: {scale!r} is no scale; write FILE:SCALE, such as {file}:0.8") from error
    check_lora(lora)
    return lora


def _target(given: str) -> tuple[str, Target]:
    """What stands before @TARGET, and the target; a file's own name may have an @."""
    before, at, word = given.rpartition("@")
    into = next((target for target in TARGETS if at and target == word), None)
    if into is None and at and not is_weights(word.partition(":")[0]):
        raise RealCompoError(f"--lora {given}: {word!r} is no model; write @{', @'.join(TARGETS)}, or leave it out")
    return (before, into) if into else (given, "text_to_image")


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
