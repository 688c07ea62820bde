"""Checkpoints: diffusers folders of Stable-Diffusion-1.x-shaped models, read from safetensors and never from pickle."""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open
from transformers import CLIPTextModel
from transformers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

from runtime.bundle import sha256_of
from runtime.errors import RealCompoError

ROOT = Path(__file__).resolve().parent.parent
SUPPORTED = (
    "Supported are Stable-Diffusion-1.x-shaped pairs: a UNet2DConditionModel with 4 latent channels, CLIP text "
    "cross-attention, epsilon or velocity prediction; as spatial model the same with GLIGEN's text-and-box grounding "
    '(attention_type "gated")'
)

Model = Literal["text_to_image", "spatial"]
Component = Literal["unet", "vae", "text_encoder"]
MODELS: tuple[Model, ...] = get_args(Model)
COMPONENTS: dict[Model, tuple[Component, ...]] = {
    "text_to_image": ("text_encoder", "unet", "vae"),
    "spatial": ("unet",),
}
_WEIGHTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}

_DIFFUSERS = {"torch_dtype": torch.float32, "low_cpu_mem_usage": False}  # True needs accelerate

# Per config field what is supported; a field that a config lacks has the first value, which is the class's default.
_BLOCKS = ("CrossAttn{}Block2D", "{}Block2D")
_UNET_RULES: Mapping[str, tuple[Any, ...]] = {
    "_class_name": ("UNet2DConditionModel",),
    "in_channels": (4,),
    "out_channels": (4,),
    "mid_block_type": ("UNetMidBlock2DCrossAttn",),
    "attention_type": ("default", "gated"),
    "only_cross_attention": (False,),
    "dual_cross_attention": (False,),
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
    "addition_embed_type": (None,),
    "encoder_hid_dim_type": (None,),
    "time_cond_proj_dim": (None,),
}
_VAE_RULES: Mapping[str, tuple[Any, ...]] = {
    "_class_name": ("AutoencoderKL",),
    "latent_channels": (4,),
    "out_channels": (3,),
    "shift_factor": (None,),
}


@dataclass(frozen=True)
class Checkpoint:
    """A model's folder in diffusers' layout, and where it came from."""

    model: Model
    source: str
    revision: str | None
    folder: Path

    def read_json(self, path: str) -> dict[str, Any]:
        """A JSON file of the folder.

        Raises:
            RealCompoError: it is missing or not a JSON object.
        """
        file = self.existing(path)
        try:
            content = json.loads(file.read_text())
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
        pickled = " (there is a .bin; pickled weights are not read)" if list(file.parent.glob("*.bin")) else ""
        raise RealCompoError(f"{file} is missing{pickled}. {_mend(self.model)}")

    def config(self, component: Component) -> dict[str, Any]:
        return self.read_json(f"{component}/config.json")

    def weights(self, component: Component) -> tuple[str | None, list[Path]]:
        """The safetensors files of a component, and their variant ("fp16" where there is no other).

        Raises:
            RealCompoError: a file is missing.
        """
        stem = f"{component}/{_WEIGHTS[component]}"
        for variant, suffix in ((None, ""), ("fp16", ".fp16")):
            if (whole := self.folder / f"{stem}{suffix}.safetensors").is_file():
                return variant, [whole]
            if (self.folder / (index := f"{stem}.safetensors.index{suffix}.json")).is_file():
                shards = sorted(set(self.read_json(index)["weight_map"].values()))
                return variant, [self.existing(f"{component}/{shard}") for shard in shards]
        return None, [self.existing(f"{stem}.safetensors")]

    def digest(self, component: Component) -> str:
        """sha256 over a component's config and weights."""
        files = [self.folder / component / "config.json", *self.weights(component)[1]]
        return hashlib.sha256("".join(map(sha256_of, files)).encode()).hexdigest()

    def fp32_bytes(self, component: Component, prefixes: tuple[str, ...]) -> int:
        """The size in fp32 of those of a component's weights whose names start with one of `prefixes`."""
        headers = (_safetensors_header(file) for file in self.weights(component)[1])
        return sum(4 * math.prod(shape) for h in headers for name, shape in h.items() if name.startswith(prefixes))


@dataclass(frozen=True)
class Checkpoints:
    """The two models of a pair. The spatial one uses the text encoder and the VAE of the other."""

    text_to_image: Checkpoint
    spatial: Checkpoint

    def of(self, model: Model) -> Checkpoint:
        return self.text_to_image if model == "text_to_image" else self.spatial


def open_checkpoints(text_to_image: str, spatial: str, *, download: bool = True) -> Checkpoints:
    """Find both models and check, before any weight is read, that they are there and supported.

    Raises:
        RealCompoError: a model cannot be had, lacks a file, or has an architecture that is not supported.
    """
    checkpoints = Checkpoints(_open("text_to_image", text_to_image, download), _open("spatial", spatial, download))
    for model, components in COMPONENTS.items():
        for component in components:
            checkpoints.of(model).config(component)
            checkpoints.of(model).weights(component)
    _check_supported(checkpoints)
    return checkpoints


def share_unet(checkpoints: Checkpoints) -> bool:
    """Whether the spatial UNet is the text-to-image one with GLIGEN's layers added: every other weight is the same.

    GLIGEN trains its own layers alone (arXiv 2301.07093), so that this holds for the model it was made from.
    """
    base, grounded = (_open_weights(checkpoints.of(model), "unet") for model in MODELS)
    if set(base) != {name for name in grounded if not _is_grounding(name)}:
        return False
    return all(torch.equal(base[name](), grounded[name]()) for name in base)  # stops at the first that differs


def _is_grounding(name: str) -> bool:
    return name.startswith("position_net.") or ".fuser." in name


def _open_weights(checkpoint: Checkpoint, component: Component) -> dict[str, Callable[[], torch.Tensor]]:
    """What reads each weight of a component, by name."""
    read: dict[str, Callable[[], torch.Tensor]] = {}
    for path in checkpoint.weights(component)[1]:
        file = safe_open(path, framework="pt")
        names = file.keys()
        read |= {name: partial(file.get_tensor, name) for name in names}
    return read


def load_unet(checkpoint: Checkpoint) -> UNet2DConditionModel:
    """The UNet in fp32, in evaluation mode, its weights frozen."""
    return _load(checkpoint, "unet", UNet2DConditionModel.from_pretrained, **_DIFFUSERS)


def load_vae(checkpoint: Checkpoint) -> AutoencoderKL:
    """The VAE in fp32, in evaluation mode, its weights frozen."""
    return _load(checkpoint, "vae", AutoencoderKL.from_pretrained, **_DIFFUSERS)


def load_text_encoder(checkpoint: Checkpoint) -> CLIPTextModel:
    """The text encoder in fp32, in evaluation mode, its weights frozen."""
    return _load(checkpoint, "text_encoder", CLIPTextModel.from_pretrained, dtype=torch.float32)


def empty_unet(checkpoint: Checkpoint) -> UNet2DConditionModel:
    """The UNet's structure, without weights."""
    with torch.device("meta"), _readable(checkpoint, "unet"):
        return UNet2DConditionModel.from_config(checkpoint.config("unet"))


def _load(checkpoint: Checkpoint, component: Component, from_pretrained: Callable[..., Any], **options: Any) -> Any:
    with _readable(checkpoint, component), no_progress_bar():
        model, info = from_pretrained(
            checkpoint.folder / component,
            variant=checkpoint.weights(component)[0],
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            **options,
        )
    if missing := sorted(info["missing_keys"]):
        raise RealCompoError(
            f"{checkpoint.folder / component} lacks {len(missing)} weights of its architecture, among them {missing[0]}"
            f". {_mend(checkpoint.model)}"
        )
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
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        cause = str(error).strip().split("\n")[0]
        raise RealCompoError(
            f"{checkpoint.folder / component} cannot be loaded: {cause}. {_mend(checkpoint.model)}"
        ) from error


def _open(model: Model, source: str, download: bool) -> Checkpoint:
    for folder in (Path(source).expanduser(), ROOT / source):
        if folder.is_dir():
            return Checkpoint(model, source, None, folder)
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", source):
        raise RealCompoError(f"the folder {source} of the {model} model does not exist. {_mend(model)}")
    try:
        snapshot = Path(snapshot_download(source, allow_patterns=_files_of(model), local_files_only=not download))
    except Exception as error:  # whatever the hub client raises, the user's way on is the same
        cause = str(error).strip().split("\n")[0]
        raise RealCompoError(
            f"{source} (the {model} model) is no folder, and the hub does not give it: {cause}. {_mend(model)}"
        ) from error
    return Checkpoint(model, source, snapshot.name, snapshot)


def _files_of(model: Model) -> list[str]:
    patterns = [f"{c}/{name}" for c in COMPONENTS[model] for name in ("config.json", f"{_WEIGHTS[c]}*.safetensors*")]
    return patterns + (["tokenizer/*", "scheduler/*.json"] if model == "text_to_image" else [])


def _check_supported(checkpoints: Checkpoints) -> None:
    text_to_image, spatial = checkpoints.text_to_image, checkpoints.spatial
    for checkpoint in (text_to_image, spatial):
        _check_unet(checkpoint)
    _check(spatial, "unet", "attention_type", spatial.config("unet").get("attention_type", "default"), ("gated",))
    _check_rules(text_to_image, "vae", _VAE_RULES)
    _check_rules(text_to_image, "text_encoder", {"model_type": ("clip_text_model",)})
    scheduler = text_to_image.read_json("scheduler/scheduler_config.json")
    predicted = scheduler.get("prediction_type", "epsilon")
    _check(text_to_image, "scheduler", "prediction_type", predicted, ("epsilon", "v_prediction"))
    width = text_to_image.config("text_encoder")["hidden_size"]
    for checkpoint in (text_to_image, spatial):
        _check(checkpoint, "unet", "cross_attention_dim", checkpoint.config("unet")["cross_attention_dim"], (width,))
    sample_size = text_to_image.config("unet")["sample_size"]
    _check(spatial, "unet", "sample_size", spatial.config("unet")["sample_size"], (sample_size,))


def _check_unet(checkpoint: Checkpoint) -> None:
    _check_rules(checkpoint, "unet", _UNET_RULES)
    config = checkpoint.config("unet")
    for field, way in (("down_block_types", "Down"), ("up_block_types", "Up")):
        for block in config[field]:
            _check(checkpoint, "unet", field, block, tuple(name.format(way) for name in _BLOCKS))


def _check_rules(checkpoint: Checkpoint, component: Component, rules: Mapping[str, tuple[Any, ...]]) -> None:
    config = checkpoint.config(component)
    for field, allowed in rules.items():
        _check(checkpoint, component, field, config.get(field, allowed[0]), allowed)


def _check(checkpoint: Checkpoint, component: str, field: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        raise RealCompoError(
            f"{checkpoint.folder / component} is not supported as {checkpoint.model} model: its {field} is "
            f"{json.dumps(value)}, not {' or '.join(map(json.dumps, allowed))}. {SUPPORTED}"
        )


def _safetensors_header(file: Path) -> dict[str, list[int]]:
    """Names and shapes of the tensors in a safetensors file."""
    with file.open("rb") as f:
        try:
            header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
            return {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
        except (ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
            raise RealCompoError(f"{file} is damaged: it has no safetensors header") from error


def _mend(model: Model) -> str:
    return f"Give a diffusers folder with --{model.replace('_', '-')} DIR"
