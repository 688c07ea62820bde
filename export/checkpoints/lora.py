"""LoRA files (Hu et al., arXiv 2106.09685), fused into the text-to-image model before it is exported.

A fused model is a diffusers folder like any other: engines, keys and verification know nothing of LoRAs. diffusers and
PEFT read the files, in their own names and in kohya's.
"""

import hashlib
import json
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from diffusers.utils import logging

from export.checkpoints.folders import (
    Checkpoint,
    component_folder,
    load_text_encoder,
    load_unet,
    no_progress_bar,
    open_text_to_image,
    safetensors_header,
)
from export.pairs import Lora, Pair
from export.staging import whole_folder
from runtime.bundle.manifest import sha256_of
from runtime.errors import RealCompoError

Report = Callable[[str], None]
ADAPTER = "lora"
FUSED = ("unet", "text_encoder", "text_encoder_2")  # what LoRAs may change
_COPIED = ("vae", "tokenizer", "tokenizer_2", "scheduler", "model_index.json")


def fuse_loras(pair: Pair, folder: Path, report: Report = lambda stage: None) -> Pair:
    """The pair with its LoRAs in its text-to-image model, which becomes a diffusers folder inside `folder`.

    It is made once; afterwards it is found there by its hash. ControlNets stand over the fused model, GLIGEN stays as
    it is.

    Raises:
        RealCompoError: a file that is damaged, is no LoRA, or is one of another architecture.
    """
    if not pair.loras:
        return pair
    report("fusing LoRAs: reading")
    base = open_text_to_image(pair.text_to_image, fp16_files=pair.fp16_files)
    place = folder / f"text_to_image-{_key(base, pair.loras)[:12]}"
    if not place.is_dir():
        with whole_folder(place) as scratch:
            _copy_rest(base, scratch)
            _save_fused(base, pair.loras, scratch, report)
    return replace(pair, text_to_image=str(place), spatial=str(place) if pair.is_over_base else pair.spatial)


def _key(base: Checkpoint, loras: Sequence[Lora]) -> str:
    parts = [base.digest(component) for component in base.components]
    parts += [f"{sha256_of(Path(lora.file))} {lora.scale}" for lora in loras]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _copy_rest(base: Checkpoint, scratch: Path) -> None:
    scratch.mkdir(parents=True)
    for name in _COPIED:
        if (path := base.folder / name).is_dir():
            shutil.copytree(path, scratch / name)
        elif path.is_file():
            shutil.copyfile(path, scratch / name)


def _save_fused(base: Checkpoint, loras: Sequence[Lora], scratch: Path, report: Report) -> None:
    """Each component in the type that it is stored in."""
    pipeline = _pipeline(base)
    for lora in loras:
        report(f"fusing LoRAs: {Path(lora.file).name}")
        _fuse(pipeline, lora)
    for component in base.components:
        if component in FUSED:
            with no_progress_bar():
                model = getattr(pipeline, component).to(base.stored_type(component))
                model.save_pretrained(component_folder(scratch, component))


def _pipeline(base: Checkpoint) -> Any:
    """diffusers' pipeline, which knows how to read LoRAs, with the models that they change."""
    encoders: dict[str, Any] = {name: load_text_encoder(base, name) for name in base.family.text_encoders}
    return base.family.pipeline({"unet": load_unet(base), **encoders})


def _fuse(pipeline: Any, lora: Lora) -> None:
    safetensors_header(Path(lora.file))  # or else it is damaged
    with _silence():
        _check_places(pipeline, lora)
        with _fitting(lora):
            pipeline.load_lora_weights(lora.file, adapter_name=ADAPTER)
            changed = [component for component, names in pipeline.get_list_adapters().items() if ADAPTER in names]
            pipeline.fuse_lora(components=changed, lora_scale=lora.scale, safe_fusing=True, adapter_names=[ADAPTER])
        pipeline.unload_lora_weights()


def _check_places(pipeline: Any, lora: Lora) -> None:
    """diffusers leaves out what it finds no place for."""
    with _fitting(lora):
        weights = pipeline.lora_state_dict(lora.file, unet_config=pipeline.unet.config)[0]
    names = [name for name in weights if "lora" in name]
    if not names:
        raise _unfit(lora, f"it is no LoRA; it has weights such as {next(iter(weights), 'none')}")
    for name in names:
        component, _, path = re.sub(r"\.(processor\.)?", ".", name).partition(".")
        layer = re.split(r"\.lora|(\.to_\w+)?_lora", path)[0]  # up to the layer, or in older names what holds it
        model = getattr(pipeline, component, None) if component in FUSED else None
        if model is None or layer not in dict(model.named_modules()):
            raise _unfit(lora, f"it has no place for {name}")


@contextmanager
def _fitting(lora: Lora) -> Iterator[None]:
    """What readers of several formats raise."""
    try:
        yield
    except (ValueError, KeyError, OSError, RuntimeError) as error:
        raise _unfit(lora, str(error).strip().splitlines()[-1].strip()) from error


@contextmanager
def _silence() -> Iterator[None]:
    """diffusers warns of text encoders that a file says nothing of, and PEFT of layers."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)


def _unfit(lora: Lora, why: str) -> RealCompoError:
    return RealCompoError(f"--lora {lora.file} does not fit the text-to-image model: {why}")
