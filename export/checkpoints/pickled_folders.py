"""Diffusers folders with pickled weights -> folders of the same models with safetensors."""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from export.checkpoints.folders import Checkpoint, component_folder, find_checkpoint
from export.checkpoints.header import read_header
from export.checkpoints.pickles import Report, as_safetensors
from export.checkpoints.source import is_weights
from export.pairs import Pair
from export.staging import copy_present, whole_folder
from export.words import Component
from runtime.bundle.manifest import sha256_of
from runtime.words import Model

_COPIED = ("tokenizer", "tokenizer_2", "scheduler", "model_index.json")
_NAMES: dict[Component, str] = {"text_encoder": "model", "text_encoder_2": "model"}  # of weights, without suffix
_USUAL_NAME = "diffusion_pytorch_model"


def convert_pickled_folders(pair: Pair, folder: Path, report: Report = lambda stage: None) -> Pair:
    """The pair with each model whose folder has pickles alone of a component replaced by a folder inside `folder`.

    It is made once; afterwards it is found there by its hash. What has safetensors stays where it is, and is linked.

    Raises:
        RealCompoError: a model that cannot be had, or a pickle that holds more than weights.
    """

    def converted(model: Model, source: str, components: Sequence[Component]) -> str:
        return _converted(model, source, components, pair.fp16_files, folder, report)

    pair = pair.with_base(converted("text_to_image", pair.text_to_image, ("text_encoder", "unet", "vae")))
    if not pair.is_over_base:
        pair = replace(pair, spatial=converted("spatial", pair.spatial, ("unet",)))
    controls = (replace(one, model=converted("spatial", one.model, (one.component,))) for one in pair.controls)
    return replace(pair, controls=tuple(controls))


def _converted(
    model: Model, source: str, components: Sequence[Component], fp16_files: bool, folder: Path, report: Report
) -> str:
    if is_weights(source):
        return source
    checkpoint = find_checkpoint(model, source, components, fp16_files=fp16_files)
    parts = checkpoint.components if model == "text_to_image" else components
    pickles = {component: files for component in parts if (files := checkpoint.pickles(component))}
    if not pickles:
        return source
    place = folder / f"{model}-{_key(checkpoint, pickles)[:12]}"
    if not place.is_dir():
        safe = {
            component: [as_safetensors(file, folder, report) for file in pickles[component]] for component in pickles
        }
        with whole_folder(place) as scratch:
            _assemble(checkpoint, safe, parts, scratch)
    return str(place)


def _key(checkpoint: Checkpoint, pickles: dict[Component, list[Path]]) -> str:
    files = [file for found in pickles.values() for file in found]
    files += [checkpoint.place(component) / "config.json" for component in pickles]
    files += [file for name in _COPIED for file in _files(checkpoint.folder / name)]
    parts = [str(checkpoint.folder.resolve()), *map(sha256_of, files)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def _assemble(
    checkpoint: Checkpoint, safe: dict[Component, list[Path]], parts: Sequence[Component], scratch: Path
) -> None:
    copy_present(_COPIED, checkpoint.folder, scratch)
    for component in parts:
        place = component_folder(scratch, component)
        if component in safe:
            place.mkdir(exist_ok=True)
            shutil.copyfile(checkpoint.place(component) / "config.json", place / "config.json")
            _write_weights(safe[component], place, _NAMES.get(component, _USUAL_NAME))
        elif checkpoint.place(component).is_dir():
            place.symlink_to(checkpoint.place(component).resolve(), target_is_directory=True)


def _write_weights(files: Sequence[Path], place: Path, name: str) -> None:
    """One file, or shards and their index."""
    if len(files) == 1:
        return _link(files[0], place / f"{name}.safetensors")
    shards = {f"{name}-{i:05}-of-{len(files):05}.safetensors": file for i, file in enumerate(files, 1)}
    for shard, file in shards.items():
        _link(file, place / shard)
    named = {weight: shard for shard, file in shards.items() for weight in read_header(file)}
    (place / f"{name}.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": named}))
    return None


def _link(file: Path, place: Path) -> None:
    """A second name of the file, or a copy where the disk knows no such."""
    try:
        os.link(file, place)
    except OSError:
        shutil.copyfile(file, place)
