"""LoRA files, fused into the text-to-image model before it is exported.

A fused model is a diffusers folder like any other: engines, keys and verification know nothing of LoRAs. Weights are
changed in fp32 and stored in the type that they had.
"""

import hashlib
import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from export.checkpoints.folders import (
    Checkpoint,
    component_folder,
    open_checkpoint,
    open_text_to_image,
    read_weights,
    whole_file,
)
from export.checkpoints.header import read_header
from export.checkpoints.lora_file import Change, Shapes, read_lora
from export.pairs import Lora, Pair
from export.staging import copy_present, whole_folder
from export.words import Component
from runtime.bundle.manifest import sha256_of
from runtime.errors import RealCompoError
from runtime.messages import shown
from runtime.words import MODELS, Model

Report = Callable[[str], None]
Changes = dict[Component, dict[str, list[tuple[Lora, Change]]]]  # of each stored weight that is changed
_COPIED = ("vae", "tokenizer", "tokenizer_2", "scheduler", "model_index.json")
_VERSION = 2  # of how files are read, which the fused folder's name depends on


def fuse_loras(pair: Pair, folder: Path, report: Report = lambda stage: None) -> Pair:
    """The pair with its LoRAs in its models, each of which becomes a diffusers folder inside `folder`.

    It is made once; afterwards it is found there by its hash. ControlNets stand over the fused model. Of GLIGEN's model
    only the UNet is its own: what a LoRA changes in text encoders, it changes in the text-to-image model.

    Raises:
        RealCompoError: a file that is damaged, is no LoRA, is one of another architecture, or has a tensor that is
            not fused; or a spatial model that is the text-to-image one.
    """
    if not pair.loras:
        return pair
    report("fusing LoRAs: reading")
    base = open_text_to_image(pair.text_to_image, fp16_files=pair.fp16_files)
    here = {target: _those_of(pair, target) for target in MODELS}
    text_to_image = _fuse(base, base, here["text_to_image"], folder, report) or pair.text_to_image
    if pair.is_over_base:
        return replace(pair, text_to_image=text_to_image, spatial=text_to_image)
    if not here["spatial"]:
        return replace(pair, text_to_image=text_to_image)
    own = open_checkpoint("spatial", pair.spatial, ("unet",), True, pair.fp16_files)
    spatial = _fuse(own, base, here["spatial"], folder, report) or pair.spatial
    return replace(pair, text_to_image=text_to_image, spatial=spatial)


def _those_of(pair: Pair, model: Model) -> list[Lora]:
    """The LoRAs that go into a model."""
    for lora in pair.loras:
        if lora.into == "spatial" and pair.is_over_base:
            where = f"--lora {shown(lora.file)}@spatial"
            raise RealCompoError(f"{where}: both models have one UNet in this pair; leave @spatial out")
    return [lora for lora in pair.loras if lora.into in (model, "both")]


def _fuse(model: Checkpoint, base: Checkpoint, loras: Sequence[Lora], folder: Path, report: Report) -> str | None:
    """The folder of a model with its LoRAs; nothing without any."""
    if not loras:
        return None
    place = folder / f"{model.model}-{_key(model, loras)[:12]}"
    if not place.is_dir():
        changes = _read(model, base, loras, report)
        with whole_folder(place) as scratch:
            copy_present(_COPIED if model is base else (), model.folder, scratch)
            for component in _changeable(model):
                _save(model, component, changes.get(component, {}), scratch)
    return str(place)


def _key(base: Checkpoint, loras: Sequence[Lora]) -> str:
    components = base.components if base.model == "text_to_image" else _changeable(base)
    parts = [str(_VERSION), *(base.digest(component) for component in components)]
    for lora in loras:
        with _fitting(lora, base.model):
            parts.append(f"{sha256_of(_file(lora))} {lora.scale}")
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _file(lora: Lora) -> Path:
    return Path(lora.file).expanduser()


def _changeable(base: Checkpoint) -> tuple[Component, ...]:
    """What a LoRA may change of a model: the spatial one's text encoders are the other's."""
    return ("unet", *base.family.text_encoders) if base.model == "text_to_image" else ("unet",)


def _read(model: Checkpoint, base: Checkpoint, loras: Sequence[Lora], report: Report) -> Changes:
    own = _changeable(model)
    shapes: Shapes = {
        component: _shapes(model if component in own else base, component) for component in _changeable(base)
    }
    changes: Changes = defaultdict(lambda: defaultdict(list))
    for lora in loras:
        report(f"fusing LoRAs: {_file(lora).name}")
        with _fitting(lora, model.model):
            for update in read_lora(_file(lora), shapes):
                if update.layer.component not in own:
                    _check_both(lora)
                    continue
                for name, change in update.changes():
                    changes[update.layer.component][name].append((lora, change))
    return changes


def _check_both(lora: Lora) -> None:
    if lora.into == "spatial":
        raise ValueError("it changes a text encoder too, which is the text-to-image model's: write @both")


def _shapes(base: Checkpoint, component: Component) -> dict[str, tuple[int, ...]]:
    headers = [read_header(file) for file in base.weights(component)[1]]
    return {name: one.shape for header in headers for name, one in header.items()}


def _save(
    base: Checkpoint, component: Component, changes: Mapping[str, Sequence[tuple[Lora, Change]]], scratch: Path
) -> None:
    weights = read_weights(base, component)
    fused = {name: _fused(base.model, weights[name], f"{component}'s {name}", own) for name, own in changes.items()}
    folder = component_folder(scratch, component)
    folder.mkdir(parents=True)
    shutil.copyfile(base.place(component) / "config.json", folder / "config.json")
    save_file(weights | fused, whole_file(scratch, component), metadata={"format": "pt"})


def _fused(model: Model, weight: Tensor, name: str, changes: Sequence[tuple[Lora, Change]]) -> Tensor:
    """Each LoRA's change is that of the weight as it was: their order does not matter."""
    total = weight.float()
    for lora, change in changes:
        total = total + change(weight, lora.scale)
        with _fitting(lora, model):
            if not total.to(weight.dtype).float().isfinite().all():
                kind = str(weight.dtype).removeprefix("torch.")
                raise ValueError(f"with it, {shown(name)} would not be finite in {kind}")
    return total.to(weight.dtype)


@contextmanager
def _fitting(lora: Lora, model: Model) -> Iterator[None]:
    """What reading and fusing refuse, in one line that names the file and the model that it was to go into."""
    file = shown(lora.file)
    try:
        yield
    except OSError as error:
        raise RealCompoError(f"--lora {file} cannot be read: {shown(error.strerror or str(error), 150)}") from error
    except SafetensorError as error:
        raise RealCompoError(f"--lora {file} is damaged: {shown(str(error), 150)}. Download it again") from error
    except ValueError as error:
        why = shown(str(error), 170)
        raise RealCompoError(f"--lora {file} does not fit the {model.replace('_', '-')} model: {why}") from error
