"""Checkpoints: diffusers folders of Stable Diffusion and SDXL, read from safetensors and never from pickle.

Pickles are converted before, by `export.checkpoints.pickles`."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors import safe_open
from transformers import CLIPTextModel, CLIPTextModelWithProjection
from transformers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

from export.checkpoints.configs import class_of, complete, complete_schedule
from export.checkpoints.header import read_header
from export.checkpoints.hub import fetch, is_whole, snapshot
from export.checkpoints.source import ROOT as ROOT
from export.checkpoints.source import folder_on_disk, hub_source
from export.checkpoints.variants import PLACES, Want, variants
from export.checkpoints.weight_files import PICKLED_NAMES, check_names, silence, stored_files
from export.families import family_of
from export.families.family import Configs, Family
from export.words import Component
from runtime.bundle.manifest import sha256_of
from runtime.errors import RealCompoError
from runtime.words import Model

_TEXT_ENCODERS: dict[Component, Any] = {
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,  # of SDXL, which takes a whole text's projection
}
BASE: tuple[Component, ...] = ("text_encoder", "unet", "vae")  # what every text-to-image model has
_NORMS = (torch.nn.GroupNorm, torch.nn.LayerNorm)


@dataclass(frozen=True)
class Checkpoint:
    """A model's folder in diffusers' layout, and where it came from."""

    model: Model
    source: str
    revision: str | None
    folder: Path
    fp16_files: bool = False  # whether they are read where there are others too

    @property
    def family(self) -> Family:
        """Which family of models its UNet tells it to be of."""
        return family_of(self.config("unet"))

    @property
    def components(self) -> tuple[Component, ...]:
        """What a pair takes of it where it is the text-to-image model."""
        return (*self.family.text_encoders, "unet", "vae")

    @property
    def configs(self) -> Configs:
        """Those of its components."""
        return {component: self.config(component) for component in self.components}

    @property
    def zero_negative(self) -> bool:
        """Whether no negative prompt is told as zeros."""
        described = self.read_json("model_index.json") if (self.folder / "model_index.json").is_file() else {}
        return self.family.zero_negative(described)

    def read_json(self, path: str) -> dict[str, Any]:
        """A JSON file of the folder.

        Raises:
            RealCompoError: it is missing or not a JSON object.
        """
        file = self.existing(path)
        try:
            content = json.loads(file.read_text(encoding="utf-8-sig"))  # some editors begin files with a mark
        except ValueError as error:
            raise RealCompoError(f"{file} is damaged: {error}. {_mend(self.model)}") from error
        if not isinstance(content, dict):
            raise RealCompoError(f"{file} is damaged: it is no JSON object. {_mend(self.model)}")
        return content

    def existing(self, path: str) -> Path:
        """A file of the folder.

        Raises:
            RealCompoError: it is missing.
        """
        file = self.folder / path
        if file.is_file():
            return file
        raise RealCompoError(f"{file} is missing. {_mend(self.model)}")

    def place(self, component: Component) -> Path:
        """The folder of a component."""
        return component_folder(self.folder, component)

    def config(self, component: Component) -> dict[str, Any]:
        """Its config, with the defaults of what it leaves out."""
        described = self.read_json(str(Path(PLACES[component]).with_name("config.json")))
        return complete(component, self._kinds() | described if component == "controlnet" else described)

    def _kinds(self) -> dict[str, int]:
        """How many kinds its ControlNet reads, of a union: xinsir's config is that of a plain one, its weights tell."""
        files = stored_files(self, Path(PLACES["controlnet"]), "safetensors", variants(self.fp16_files))
        found = (read_header(file).get("task_embedding") for file in (files[1] if files else []))
        return next(({"num_control_type": one.shape[0]} for one in found if one), {})

    def schedule(self) -> dict[str, Any]:
        """The scheduler's config, with the defaults of the noise that it leaves out."""
        file = "scheduler/scheduler_config.json"
        return complete_schedule(self.read_json(file), self.folder / file)

    def weights(self, component: Component) -> tuple[str | None, list[Path]]:
        """The safetensors files of a component, and their variant: the wanted one, or the other where it is alone.

        Raises:
            RealCompoError: a file is missing.
        """
        stem, order = Path(PLACES[component]), variants(self.fp16_files)
        return stored_files(self, stem, "safetensors", order) or (None, [self.existing(f"{stem}.safetensors")])

    def pickles(self, component: Component) -> list[Path]:
        """The pickled files of a component that has no safetensors.

        Raises:
            RealCompoError: one that an index names is missing.
        """
        stem, order = Path(PLACES[component]), variants(self.fp16_files)
        if stored_files(self, stem, "safetensors", order):
            return []
        stored = stored_files(self, stem.with_name(PICKLED_NAMES.get(stem.name, stem.name)), "bin", order)
        return stored[1] if stored else []

    def digest(self, component: Component) -> str:
        """sha256 over a component's config and weights."""
        files = [self.place(component) / "config.json", *self.weights(component)[1]]
        return hashlib.sha256("".join(map(sha256_of, files)).encode()).hexdigest()

    def fp32_bytes(self, component: Component, prefixes: tuple[str, ...]) -> int:
        """The size in fp32 of those of a component's weights whose names start with one of `prefixes`."""
        headers = (read_header(file) for file in self.weights(component)[1])
        return sum(
            4 * math.prod(one.shape) for header in headers for name, one in header.items() if name.startswith(prefixes)
        )


@dataclass(frozen=True)
class Checkpoints:
    """The two models of a pair. The spatial one uses the text encoder and the VAE of the other; it may be the other
    itself, with models attached to its UNet."""

    kind: str  # of spatial model, of `export.spatial.KINDS`
    text_to_image: Checkpoint
    spatial: Checkpoint
    attached: tuple[Checkpoint, ...] = ()  # such as ControlNets
    attached_as: Component = "controlnet"  # what is taken of each
    reads: tuple[str, ...] = ()  # the kind of control image of each

    def of(self, model: Model) -> Checkpoint:
        return self.text_to_image if model == "text_to_image" else self.spatial


def component_folder(folder: Path, component: Component) -> Path:
    """Where a checkpoint's folder has a component; a ControlNet or adapter has its folder to itself."""
    return (folder / PLACES[component]).parent


def find_checkpoint(
    model: Model, source: str, components: Sequence[Component], *, download: bool = True, fp16_files: bool = False
) -> Checkpoint:
    """Find a model, whatever it has of these components' files.

    Args:
        fp16_files: whether they are taken where there are others too.

    Raises:
        RealCompoError: it cannot be had.
    """
    if folder := folder_on_disk(source):
        return Checkpoint(model, source, None, folder, fp16_files)
    hub = hub_source(source)
    if hub is None:
        raise RealCompoError(f"the folder {source} of the {model} model does not exist. {_mend(model)}")
    want = Want(model, hub, tuple(components), fp16_files)
    if download and not is_whole(want):
        hub = fetch([want])[hub]
    if found := snapshot(hub):
        return Checkpoint(model, source, found.name, found / hub.path, fp16_files)
    raise RealCompoError(f"{source} (the {model} model) is no folder, and is not in the hub's cache. {_mend(model)}")


def whole_file(folder: Path, component: Component) -> Path:
    """Where a checkpoint's folder has all of a component's weights, if they are in one file."""
    return folder / f"{PLACES[component]}.safetensors"


def open_text_to_image(source: str, *, download: bool = True, fp16_files: bool = False) -> Checkpoint:
    """Find the text-to-image model and check that its files are there.

    Args:
        fp16_files: whether they are taken where there are others too.

    Raises:
        RealCompoError: it cannot be had, or lacks a file.
    """
    base = open_checkpoint("text_to_image", source, BASE, download, fp16_files)
    _check_files(base, base.components)
    return base


def open_checkpoint(
    model: Model, source: str, components: Sequence[Component], download: bool, fp16_files: bool = False
) -> Checkpoint:
    """Find a model and check that it has these components' files.

    Raises:
        RealCompoError: it cannot be had, or lacks a file.
    """
    checkpoint = find_checkpoint(model, source, components, download=download, fp16_files=fp16_files)
    _check_files(checkpoint, components)
    return checkpoint


def open_weights(checkpoint: Checkpoint, component: Component) -> dict[str, Callable[[], torch.Tensor]]:
    """What reads each weight of a component, by name."""
    read: dict[str, Callable[[], torch.Tensor]] = {}
    for path in checkpoint.weights(component)[1]:
        file = safe_open(path, framework="pt")
        names = file.keys()
        read |= {name: partial(file.get_tensor, name) for name in names}
    return read


def read_weights(checkpoint: Checkpoint, component: Component) -> dict[str, torch.Tensor]:
    """A component's weights as they are stored, which stay in the mapped files.

    Raises:
        RealCompoError: a file is damaged.
    """
    with _readable(checkpoint, component):
        return {name: read() for name, read in open_weights(checkpoint, component).items()}


def load_unet(checkpoint: Checkpoint, dtype: torch.dtype = torch.float32) -> UNet2DConditionModel:
    """The UNet in `dtype` but for norms, which are in fp32; in evaluation mode, its weights frozen."""
    return _fill(empty_unet(checkpoint), checkpoint, "unet", dtype)


def load_attached(
    checkpoint: Checkpoint, dtype: torch.dtype = torch.float32, component: Component = "controlnet"
) -> Any:
    """A ControlNet or T2I-Adapter in `dtype` but for norms, which are in fp32; in evaluation mode, its weights
    frozen."""
    return _fill(empty_attached(checkpoint, component), checkpoint, component, dtype)


def load_vae(checkpoint: Checkpoint) -> AutoencoderKL:
    """The VAE in fp32, in evaluation mode, its weights frozen."""
    options = {"torch_dtype": torch.float32, "low_cpu_mem_usage": False}  # True needs accelerate
    return _load(checkpoint, "vae", AutoencoderKL.from_pretrained, **options)


def load_text_encoder(
    checkpoint: Checkpoint, component: Component = "text_encoder"
) -> CLIPTextModel | CLIPTextModelWithProjection:
    """A text encoder in fp32, in evaluation mode, its weights frozen."""
    return _load(checkpoint, component, _TEXT_ENCODERS[component].from_pretrained, dtype=torch.float32)


def empty_unet(checkpoint: Checkpoint) -> UNet2DConditionModel:
    """The UNet's structure, without weights."""
    with torch.device("meta"), _readable(checkpoint, "unet"):
        return UNet2DConditionModel.from_config(checkpoint.config("unet"))


def empty_attached(checkpoint: Checkpoint, component: Component = "controlnet") -> Any:
    """The structure of a ControlNet or T2I-Adapter, without weights."""
    with torch.device("meta"), _readable(checkpoint, component):
        config = checkpoint.config(component)
        kind: Any = class_of(component, config)
        return kind.from_config(config)


def _fill(model: Any, checkpoint: Checkpoint, component: Component, dtype: torch.dtype) -> Any:
    """Give a model its weights one by one, so that memory holds nothing besides. Those that the file has in the wanted
    type already stay in the file, which is mapped."""
    exact = {f"{name}." for name, module in model.named_modules() if isinstance(module, _NORMS)}
    with _readable(checkpoint, component):
        read = open_weights(checkpoint, component)
        empty = model.state_dict()
        check_names(checkpoint.place(component), empty.keys() - read.keys(), read.keys() - empty.keys())
        weights = {}
        for name, wanted in empty.items():
            found = read[name]()
            if found.shape != wanted.shape:
                raise ValueError(f"{name} has shape {tuple(found.shape)} instead of {tuple(wanted.shape)}")
            norm = f"{name.rpartition('.')[0]}." in exact
            weights[name] = found.to(torch.float32 if norm else dtype)
        model.load_state_dict(weights, assign=True)
    return model.eval().requires_grad_(False)


def _load(checkpoint: Checkpoint, component: Component, from_pretrained: Callable[..., Any], **options: Any) -> Any:
    with _readable(checkpoint, component), no_progress_bar(), silence():
        model, info = from_pretrained(
            checkpoint.place(component),
            variant=checkpoint.weights(component)[0],
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            **options,
        )
    check_names(checkpoint.place(component), info["missing_keys"], info["unexpected_keys"])
    return model.eval().requires_grad_(False)


@contextmanager
def no_progress_bar() -> Iterator[None]:
    """Transformers' bar would break through the build's own."""
    enabled = is_progress_bar_enabled()
    disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            enable_progress_bar()


@contextmanager
def _readable(checkpoint: Checkpoint, component: Component) -> Iterator[None]:
    try:
        yield
    except RealCompoError:
        raise
    except Exception as error:  # configs that contradict themselves make diffusers raise what it happens to
        cause = str(error).strip().split("\n")[0][:160]
        raise RealCompoError(
            f"{checkpoint.place(component)} cannot be loaded: {cause}. {_mend(checkpoint.model)}"
        ) from error


def _check_files(checkpoint: Checkpoint, components: Sequence[Component]) -> None:
    for component in components:
        checkpoint.config(component)
        checkpoint.weights(component)


def _mend(model: Model) -> str:
    return f"Give a diffusers folder with --{model.replace('_', '-')} DIR"
