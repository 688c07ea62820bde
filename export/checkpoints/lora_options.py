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
    words, into = _target(given)
    file, scale = _cut(words)
    try:
        lora = Lora(file, 1.0 if scale is None else float(scale), into)
    except ValueError as error:
        raise RealCompoError(f"--lora {given}: {scale!r} is no scale; write FILE:SCALE, such as {file}:0.8") from error
    check_lora(lora)
    return lora


def _target(given: str) -> tuple[str, Target]:
    """FILE[:SCALE] and the target. A file's or folder's own name may have an @, which a file's name then follows."""
    before, at, word = given.rpartition("@")
    into = next((target for target in TARGETS if at and target == word), None)
    if into is None and _has_file(before) and not _has_file(word):
        raise RealCompoError(f"--lora {given}: {word!r} is no model; write @{', @'.join(TARGETS)}, or leave it out")
    return (before, into) if into else (given, "text_to_image")


def _has_file(words: str) -> bool:
    return is_weights(_cut(words)[0])


def _cut(words: str) -> tuple[str, str | None]:
    """FILE and SCALE, if there is one: what follows a file of weights' name, which may have colons of its own."""
    file, _, scale = words.rpartition(":")
    return (file, scale) if is_weights(file) and not is_weights(words) else (words, None)


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
