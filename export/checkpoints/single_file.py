"""Single .safetensors files, as Stable Diffusion 1.x checkpoints are shared, -> diffusers folders.

A file holds weights alone: their names are turned by diffusers' converters, the configs are those of a known
architecture, and a tokenizer has to be given.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_controlnet_checkpoint,
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from export.checkpoints.folders import component_folder, no_progress_bar
from export.checkpoints.random_weights import ARCHITECTURES, Architecture, make_controlnet
from export.checkpoints.source import hub_source
from export.pairs import Control, Pair
from export.provenance import models_of
from export.staging import whole_folder
from export.words import Component
from runtime.bundle.manifest import sha256_of
from runtime.errors import RealCompoError
from runtime.words import MODELS, Model

Weights = dict[str, Tensor]
Report = Callable[[str], None]

# How the original code names a component's tensors
_PREFIXES: dict[Component, str] = {
    "unet": "model.diffusion_model.",
    "vae": "first_stage_model.",
    "text_encoder": "cond_stage_model.transformer.",
    "controlnet": "control_model.",
}
# A weight that tells a file of one component alone, without prefixes
_ALONE: dict[Component, tuple[str, ...]] = {
    "unet": ("conv_in.weight",),
    "controlnet": ("conv_in.weight", "time_embed.0.weight"),
}
# What is taken of a file, for each model
_COMPONENTS: dict[Model, tuple[Component, ...]] = {
    "text_to_image": ("text_encoder", "unet", "vae"),
    "spatial": ("unet",),
}
_PICKLES = (".ckpt", ".pt", ".pth", ".bin")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt")


@dataclass(frozen=True)
class _Source:
    """What a converted folder is made from, and its key is made of."""

    model: Model
    components: tuple[Component, ...]
    file: Path
    architecture: Architecture
    tokenizer: dict[str, bytes]  # file name: content; empty for the spatial model

    def key(self) -> str:
        parts = {"weights": sha256_of(self.file), "architecture": asdict(self.architecture)}
        parts |= {"model": self.model, "components": " ".join(self.components)}
        parts |= {name: hashlib.sha256(content).hexdigest() for name, content in self.tokenizer.items()}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def convert_single_files(pair: Pair, folder: Path, tokenizer: Path | None, report: Report = lambda stage: None) -> Pair:
    """The pair with each model that is a single file replaced by a diffusers folder inside `folder`.

    A file is converted once; afterwards its folder, named by the file's hash, is found there.

    Raises:
        RealCompoError: a pickle, a file that is missing, damaged or of another architecture, or no tokenizer for it.
    """
    own: tuple[Model, ...] = ("text_to_image",) if pair.is_over_base else MODELS
    models = {model: _single_file(getattr(pair, model)) for model in own}
    _check_tokenizer(tokenizer, models["text_to_image"] is not None)
    for model, file in models.items():
        if file:
            files = _tokenizer_files(file, tokenizer) if model == "text_to_image" else {}
            source = _Source(model, _COMPONENTS[model], file, _architecture(pair, file), files)
            converted = str(_convert_once(source, folder, report))
            pair = pair.with_base(converted) if model == "text_to_image" else replace(pair, spatial=converted)
    return replace(pair, controls=tuple(_convert_control(control, pair, folder, report) for control in pair.controls))


def check_single_files(pair: Pair, tokenizer: Path | None) -> None:
    """Raise RealCompoError for what `convert_single_files` refuses before it reads a file; files on a hub are taken to
    be there."""
    files = {model: None if hub_source(model) else _single_file(model) for model in models_of(pair)}
    base, on_hub = files[pair.text_to_image], hub_source(pair.text_to_image)
    _check_tokenizer(tokenizer, base is not None or bool(on_hub and on_hub.is_file))
    if base:
        _tokenizer_files(base, tokenizer)
    for file in filter(None, files.values()):
        _architecture(pair, file)


def _check_tokenizer(tokenizer: Path | None, is_wanted: bool) -> None:
    if tokenizer and not is_wanted:
        raise RealCompoError(f"--tokenizer {tokenizer} goes with a single file as --text-to-image; leave it out")


def _convert_control(control: Control, pair: Pair, folder: Path, report: Report) -> Control:
    file = _single_file(control.model)
    if file is None:
        return control
    source = _Source("spatial", ("controlnet",), file, _architecture(pair, file), {})
    return replace(control, model=str(_convert_once(source, folder, report)))


def _single_file(source: str) -> Path | None:
    """The file that a model's source names, if it names one rather than a folder or a hub id."""
    path = Path(source).expanduser()
    if path.suffix in _PICKLES:
        raise RealCompoError(
            f"{source} is a pickle, which can run code as it is read, and is not opened. Give the model as .safetensors"
        )
    if path.suffix != ".safetensors":
        return None
    if not path.is_file():
        raise RealCompoError(f"the file {source} does not exist")
    return path


def _architecture(pair: Pair, file: Path) -> Architecture:
    known = {name: architecture for name, architecture in ARCHITECTURES.items() if architecture.text_encoder_2 is None}
    if pair.name not in known:
        raise RealCompoError(
            f"{file} has no configs, and those of {pair.name} are not known. Build one of {', '.join(known)} "
            "with it, or give a diffusers folder"
        )
    return known[pair.name]


def _tokenizer_files(file: Path, folder: Path | None) -> dict[str, bytes]:
    found = [path for name in _TOKENIZER_FILES if folder and (path := folder / name).is_file()]
    if not found:
        where = f"{folder} has none of {', '.join(_TOKENIZER_FILES)}" if folder else f"{file} holds no tokenizer"
        raise RealCompoError(
            f"{where}. Give CLIP's with --tokenizer DIR: the tokenizer/ folder of a Stable Diffusion 1.x in diffusers' "
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
            (scratch / "tokenizer").mkdir()
        for name, content in source.tokenizer.items():
            (scratch / "tokenizer" / name).write_bytes(content)
    return place


def _convert(component: Component, source: _Source) -> Any:
    """The component with the file's weights, each in the file's own type."""
    with torch.device("meta"):
        model = _empty(component, source)
    weights = _renamed(component, _read(source.file, component), model)
    _check(component, source.file, weights, dict(model.state_dict()))
    model.load_state_dict(weights, assign=True)
    return model


def _empty(component: Component, source: _Source) -> Any:
    architecture = source.architecture
    match component:
        case "unet":
            attention = "gated" if source.model == "spatial" else "default"
            return UNet2DConditionModel(**architecture.unet, attention_type=attention)
        case "vae":
            return AutoencoderKL(**architecture.vae)
        case "text_encoder":
            return CLIPTextModel(CLIPTextConfig(**architecture.text_encoder))
        case "controlnet":
            return make_controlnet(architecture)
    raise AssertionError(f"no single file has a {component} of its own")


def _read(file: Path, component: Component) -> Weights:
    """A component's tensors under their names in the file; all of a file that is one UNet or ControlNet alone."""
    try:
        with safe_open(file, framework="pt") as opened:
            names = list(opened.keys())
            alone = any(name in names for name in _ALONE.get(component, ()))
            prefix = "" if alone else _PREFIXES[component]
            return {name: opened.get_tensor(name) for name in names if name.startswith(prefix)}
    except SafetensorError as error:
        raise RealCompoError(f"{file} is damaged: {error}. Download it again") from error


def _renamed(component: Component, weights: Weights, model: Any) -> Weights:
    """The weights under diffusers' names."""
    if "conv_in.weight" in weights:
        return weights
    match component:
        case "unet":
            prefix = f"{_PREFIXES['unet']}position_net."  # GLIGEN's; diffusers' converter leaves it out
            grounding = {
                name.removeprefix(_PREFIXES["unet"]): w for name, w in weights.items() if name.startswith(prefix)
            }
            return convert_ldm_unet_checkpoint(weights, model.config) | grounding
        case "vae":
            return convert_ldm_vae_checkpoint(weights, model.config)
        case "controlnet":
            return convert_controlnet_checkpoint(weights, model.config)
        case "text_encoder":
            converted = convert_ldm_clip_checkpoint(weights)
            converted.pop("text_model.embeddings.position_ids", None)  # a constant, which older files store
            nested = any(name.startswith("text_model.") for name in model.state_dict())  # until transformers 5.6
            return converted if nested else {name.removeprefix("text_model."): w for name, w in converted.items()}
    raise AssertionError(f"no single file has a {component} of its own")


def _check(component: Component, file: Path, found: Weights, wanted: Weights) -> None:
    missing, unknown = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    wrong = [name for name in found.keys() & wanted.keys() if found[name].shape != wanted[name].shape]
    for names, what in ((missing, "lacks"), (unknown, "has unknown"), (sorted(wrong), "has wrongly shaped")):
        if names:
            raise RealCompoError(
                f"{file} is not of the pair's architecture: its {component} {what} weights, {len(names)} of them, such "
                f"as {names[0]}. Give a Stable Diffusion 1.x file (as --spatial one with all of GLIGEN's UNet, or a "
                "ControlNet), or a diffusers folder"
            )
