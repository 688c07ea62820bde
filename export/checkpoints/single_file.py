"""Single files, as checkpoints of Stable Diffusion and SDXL are shared, -> diffusers folders.

A file holds weights alone: their names are turned by diffusers' converters, the configs are those of a known
architecture, and a tokenizer has to be given. Pickles are turned into safetensors first.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from export.checkpoints.files import check_kind, check_taken, identify
from export.checkpoints.folders import component_folder, find_checkpoint, no_progress_bar, open_weights
from export.checkpoints.original_names import Weights, grounding_renamed, read_component, read_grounding, renamed
from export.checkpoints.pickles import as_safetensors, converted_place, digest_of
from export.checkpoints.places import ATTACHED, GLIGEN, TEXT_TO_IMAGE, Place
from export.checkpoints.random_weights import ARCHITECTURES, Architecture, make_controlnet
from export.checkpoints.source import hub_source, is_pickle, is_weights
from export.checkpoints.vae_source import VaeSource, find_vae
from export.families import family_of
from export.pairs import Control, Pair
from export.provenance import models_of
from export.staging import whole_folder
from export.words import Component
from runtime.errors import RealCompoError
from runtime.words import Model

Report = Callable[[str], None]

# What is taken of a file, for each model
_COMPONENTS: dict[Model, tuple[Component, ...]] = {
    "text_to_image": ("text_encoder", "text_encoder_2", "unet", "vae"),
    "spatial": ("unet",),
}
_CLIPS_PAD = "<|endoftext|>"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt")


@dataclass(frozen=True)
class _Source:
    """What a converted folder is made from, and its key is made of."""

    model: Model
    components: tuple[Component, ...]
    file: Path
    weights: Path  # the file, or what it became as safetensors
    architecture: Architecture
    tokenizer: dict[str, bytes]  # file name: content; empty for the spatial model
    vae: VaeSource | None = None  # in place of the file's own
    base: str | None = None  # the text-to-image model's folder, for what is joined with its UNet

    def key(self) -> str:
        parts = {"weights": digest_of(self.file), "architecture": asdict(self.architecture)}
        parts |= {"model": self.model, "components": " ".join(self.components)}
        parts |= {name: hashlib.sha256(content).hexdigest() for name, content in self.tokenizer.items()}
        parts |= {"vae": self.vae.key()} if self.vae else {}
        parts |= {"base": find_checkpoint("text_to_image", self.base, ("unet",)).digest("unet")} if self.base else {}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class _Places:
    """Folders in which files are made."""

    models: Path
    safetensors: Path


def convert_single_files(
    pair: Pair,
    folder: Path,
    tokenizer: Path | None,
    report: Report = lambda stage: None,
    *,
    vae: Path | None = None,
    converted: Path | None = None,
) -> Pair:
    """The pair with each model that is a single file replaced by a diffusers folder inside `folder`.

    A file is converted once; afterwards its folder, named by the file's hash, is found there.

    Args:
        vae: file or folder whose VAE is taken instead of the text-to-image file's.
        converted: folder for the safetensors of pickles; by default `converted` beside `folder`.

    Raises:
        RealCompoError: a file that is missing, damaged or of another architecture, a pickle that holds more than
            weights, or no tokenizer.
    """
    check_single_files(pair, tokenizer, vae)
    places = _Places(folder, converted or folder.with_name("converted"))
    if file := _single_file(pair.text_to_image):
        pair = pair.with_base(str(_convert_base(file, pair, tokenizer, vae, places, report)))
    if not pair.is_over_base and (file := _single_file(pair.spatial)):
        pair = replace(pair, spatial=str(_convert_spatial(file, pair, places, report)))
    return replace(pair, controls=tuple(_convert_control(control, pair, places, report) for control in pair.controls))


def check_single_files(pair: Pair, tokenizer: Path | None, vae: Path | None) -> None:
    """Raise RealCompoError for what can be said of a pair's single files before any is read; those on a hub are taken
    to be there."""
    files = {model: None if hub_source(model) else _single_file(model) for model in models_of(pair)}
    base, on_hub = files[pair.text_to_image], hub_source(pair.text_to_image)
    for option, given in (("--tokenizer", tokenizer), ("--vae", vae)):
        if given and not (base or (on_hub and on_hub.is_file)):
            raise RealCompoError(f"{option} {given} goes with a single file as --text-to-image; leave it out")
    if base:
        _tokenizer_files(base, tokenizer)
    for file in filter(None, files.values()):
        _architecture(pair, file)


def _convert_base(
    file: Path, pair: Pair, tokenizer: Path | None, vae: Path | None, places: _Places, report: Report
) -> Path:
    architecture = _architecture(pair, file)
    files = _tokenizer_files(file, tokenizer)
    components = tuple(c for c in _COMPONENTS["text_to_image"] if c != "text_encoder_2" or architecture.text_encoder_2)
    weights = _safe(file, TEXT_TO_IMAGE, places, report)
    found = find_vae(vae, architecture.vae, places.safetensors, report) if vae else None
    return _convert_once(
        _Source("text_to_image", components, file, weights, architecture, files, found), places.models, report
    )


def _convert_spatial(file: Path, pair: Pair, places: _Places, report: Report) -> Path:
    architecture, weights = _architecture(pair, file), _safe(file, GLIGEN, places, report)
    base = pair.text_to_image if read_grounding(file, weights) else None
    source = _Source("spatial", _COMPONENTS["spatial"], file, weights, architecture, {}, base=base)
    return _convert_once(source, places.models, report)


def _convert_control(control: Control, pair: Pair, places: _Places, report: Report) -> Control:
    file = _single_file(control.model)
    if file is None:
        return control
    weights = _safe(file, ATTACHED[control.component], places, report)
    source = _Source("spatial", (control.component,), file, weights, _architecture(pair, file), {})
    return replace(control, model=str(_convert_once(source, places.models, report)))


def _safe(file: Path, wanted: Place, places: _Places, report: Report) -> Path:
    """The file as safetensors, if it is what is wanted: only now can that be told of pickles, and of a hub's files."""
    safe = converted_place(file, places.safetensors) if is_pickle(file) else file
    check_kind(replace(identify(safe if safe.is_file() else file), path=file), wanted)
    return as_safetensors(file, places.safetensors, report) if is_pickle(file) else file


def _single_file(source: str) -> Path | None:
    """The file that a model's source names, if it names one rather than a folder or a hub id."""
    path = Path(source).expanduser()
    if not is_weights(path) or path.is_dir():
        return None
    if not path.is_file():
        raise RealCompoError(f"the file {source} does not exist")
    return path


def _architecture(pair: Pair, file: Path) -> Architecture:
    if pair.name not in ARCHITECTURES:
        check_taken(identify(file))
        raise RealCompoError(
            f"{file} has no configs, and those of {pair.name} are not known. Build a pair of Stable Diffusion with it, "
            f"such as {next(iter(ARCHITECTURES))} (python -m export list), or give a diffusers folder"
        )
    return ARCHITECTURES[pair.name]


def _tokenizer_files(file: Path, folder: Path | None) -> dict[str, bytes]:
    found = [path for name in _TOKENIZER_FILES if folder and (path := folder / name).is_file()]
    if not found:
        where = f"{folder} has none of {', '.join(_TOKENIZER_FILES)}" if folder else f"{file} holds no tokenizer"
        raise RealCompoError(
            f"{where}. Give CLIP's with --tokenizer DIR: the tokenizer/ folder of a Stable Diffusion in diffusers' "
            "layout, with vocab.json and merges.txt"
        )
    return {path.name: path.read_bytes() for path in found}


def _convert_once(source: _Source, folder: Path, report: Report) -> Path:
    report(f"reading {source.file.name}")
    place = folder / f"{source.model}-{source.key()[:12]}"
    if place.is_dir():
        return place
    with whole_folder(place) as scratch:
        for component in source.components:
            report(f"converting {source.file.name}: {component}")
            with no_progress_bar():
                _convert(component, source).save_pretrained(component_folder(scratch, component))
        if source.model == "text_to_image":
            PNDMScheduler(**source.architecture.scheduler).save_pretrained(scratch / "scheduler")
            _write_tokenizers(source, scratch)
    return place


def _write_tokenizers(source: _Source, scratch: Path) -> None:
    """All text encoders take CLIP's tokens, but pad them differently."""
    family = family_of(source.architecture.unet)
    for name, pad in zip(family.tokenizers, family.pads, strict=True):
        files = source.tokenizer if pad == _CLIPS_PAD else source.tokenizer | _padding_with(pad, source.tokenizer)
        (scratch / name).mkdir()
        for file, content in files.items():
            (scratch / name / file).write_bytes(content)


def _padding_with(token: str, files: dict[str, bytes]) -> dict[str, bytes]:
    changed = {"tokenizer_config.json": json.loads(files.get("tokenizer_config.json", b"{}")) | {"pad_token": token}}
    if "tokenizer.json" in files:
        changed["tokenizer.json"] = json.loads(files["tokenizer.json"]) | {"padding": None}
    return {name: json.dumps(content).encode() for name, content in changed.items()}


def _convert(component: Component, source: _Source) -> Any:
    """The component with the file's weights, each in the file's own type."""
    file, weights = source.file, source.weights
    if component == "vae" and source.vae:
        file, weights = source.vae.file, source.vae.weights
    with torch.device("meta"):
        model = _empty(component, source)
    found = renamed(component, read_component(file, weights, component), model)
    if component == "vae" and not found:
        raise RealCompoError(f"{file} holds no VAE. Give one with --vae FILE_OR_DIR")
    if source.base:
        found = _joined(source)
    _check(component, file, found, dict(model.state_dict()))
    model.load_state_dict(found, assign=True)
    return model


def _joined(source: _Source) -> Weights:
    """The text-to-image model's UNet with GLIGEN's layers, which stand alone in the file."""
    assert source.base
    base = open_weights(find_checkpoint("text_to_image", source.base, ("unet",)), "unet")
    layers = grounding_renamed(
        read_grounding(source.file, source.weights), source.architecture.unet.get("layers_per_block", 2)
    )
    return {name: read() for name, read in base.items()} | layers


def _empty(component: Component, source: _Source) -> Any:
    architecture = source.architecture
    match component:
        case "unet":
            attention = "gated" if source.model == "spatial" else "default"
            return UNet2DConditionModel(**architecture.unet, attention_type=attention)
        case "vae":
            return AutoencoderKL(**(source.vae.config if source.vae else architecture.vae))
        case "text_encoder":
            return CLIPTextModel(CLIPTextConfig(**architecture.text_encoder))
        case "text_encoder_2":
            return CLIPTextModelWithProjection(CLIPTextConfig(**(architecture.text_encoder_2 or {})))
        case "controlnet":
            return make_controlnet(architecture)


def _check(component: Component, file: Path, found: Weights, wanted: Weights) -> None:
    missing, unknown = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    wrong = [name for name in found.keys() & wanted.keys() if found[name].shape != wanted[name].shape]
    for names, what in ((missing, "lacks"), (unknown, "has unknown"), (sorted(wrong), "has wrongly shaped")):
        if names:
            raise RealCompoError(
                f"{file} is not of the pair's architecture: its {component} {what} weights, {len(names)} of them, such "
                f"as {names[0][:80]}. Give a file of this pair's family, or a diffusers folder"
            )
