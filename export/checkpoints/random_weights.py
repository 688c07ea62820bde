"""Full-size models without their weights: what the known checkpoints' configs say, filled with random numbers.

Graphs, engines, memory and speed depend on shapes alone, so all of these can be tried where no model hub is reached.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    ControlNetUnionModel,
    PNDMScheduler,
    T2IAdapter,
    UNet2DConditionModel,
)
from diffusers.models.attention import GatedSelfAttentionDense
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.normalizers import Lowercase
from tokenizers.processors import TemplateProcessing
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from export.checkpoints.configs import public
from export.checkpoints.folders import no_progress_bar
from export.families import family_of
from export.pairs import Pair
from export.staging import whole_folder
from export.words import Component
from runtime.errors import RealCompoError

SEED = 20240218
GATE = 0.5  # freshly made gates are shut, and would hide what is behind them


@dataclass(frozen=True)
class Architecture:
    """Configs in diffusers' and transformers' terms."""

    unet: dict[str, Any]
    vae: dict[str, Any]
    text_encoder: dict[str, Any]
    scheduler: dict[str, Any]
    text_encoder_2: dict[str, Any] | None = None  # of SDXL
    shared_unet: bool = False  # the spatial UNet's weights but for GLIGEN's layers are the text-to-image one's


# runwayml/stable-diffusion-v1-5; GLIGEN 1.4 is the same UNet with attention_type "gated"
STABLE_DIFFUSION_1 = Architecture(
    unet={
        "sample_size": 64,
        "block_out_channels": [320, 640, 1280, 1280],
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
        "layers_per_block": 2,
    },
    vae={
        "sample_size": 512,
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
        "scaling_factor": 0.18215,
    },
    text_encoder={
        "vocab_size": 49408,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "max_position_embeddings": 77,
        "projection_dim": 768,
        "hidden_act": "quick_gelu",
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "pad_token_id": 1,
    },
    scheduler={
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
    },
)
# stabilityai/stable-diffusion-xl-base-1.0
STABLE_DIFFUSION_XL = Architecture(
    unet={
        "sample_size": 128,
        "block_out_channels": [320, 640, 1280],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "transformer_layers_per_block": [1, 2, 10],
        "attention_head_dim": [5, 10, 20],
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    vae=STABLE_DIFFUSION_1.vae | {"sample_size": 1024, "scaling_factor": 0.13025, "force_upcast": True},
    text_encoder=STABLE_DIFFUSION_1.text_encoder,
    text_encoder_2=STABLE_DIFFUSION_1.text_encoder
    | {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 20,
        "projection_dim": 1280,
        "hidden_act": "gelu",
    },
    scheduler=STABLE_DIFFUSION_1.scheduler,
)
# Stable Diffusion 2.1 base; the text encoder is OpenCLIP's without its last layer
STABLE_DIFFUSION_2_BASE = Architecture(
    unet=STABLE_DIFFUSION_1.unet
    | {"attention_head_dim": [5, 10, 20, 20], "cross_attention_dim": 1024, "use_linear_projection": True},
    vae=STABLE_DIFFUSION_1.vae,
    text_encoder=STABLE_DIFFUSION_1.text_encoder
    | {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 23,
        "num_attention_heads": 16,
        "projection_dim": 512,
        "hidden_act": "gelu",
    },
    scheduler=STABLE_DIFFUSION_1.scheduler,
)
# Stable Diffusion 2.1
STABLE_DIFFUSION_2 = replace(
    STABLE_DIFFUSION_2_BASE,
    unet=STABLE_DIFFUSION_2_BASE.unet | {"sample_size": 96},
    vae=STABLE_DIFFUSION_1.vae | {"sample_size": 768},
    scheduler=STABLE_DIFFUSION_1.scheduler | {"prediction_type": "v_prediction"},
)
ARCHITECTURES = {
    "sd15-gligen": STABLE_DIFFUSION_1,
    "sd14-gligen": replace(STABLE_DIFFUSION_1, shared_unet=True),
    **dict.fromkeys(("sd15-openpose", "sd15-seg", "sd15-depth", "sd15-canny", "sd15-adapter"), STABLE_DIFFUSION_1),
    "sd21-gligen": replace(STABLE_DIFFUSION_2_BASE, shared_unet=True),
    "sd21-depth": STABLE_DIFFUSION_2,
    **dict.fromkeys(("sdxl-openpose", "sdxl-union", "sdxl-adapter"), STABLE_DIFFUSION_XL),
    "sdxl-gligen": replace(STABLE_DIFFUSION_XL, shared_unet=True),
}
UNIONS = {"sdxl-union": 6}  # how many kinds its ControlNet reads
ADAPTERS: dict[str, dict[str, Any]] = {  # TencentARC's configs
    "sd15-adapter": {},
    "sdxl-adapter": {"downscale_factor": 16, "adapter_type": "full_adapter_xl"},
}
IMAGE_CHANNELS = (16, 32, 96, 256)  # of a ControlNet's way from the control image to the latents' size


def with_random_weights(pair: Pair, folder: Path, report: Callable[[str], None] = lambda stage: None) -> Pair:
    """The pair with both models replaced by random ones of the same shapes, fp16, in `folder`.

    The numbers depend on a fixed seed and on PyTorch's version. What is there already is kept.

    Raises:
        RealCompoError: the pair has no known architecture.
    """
    if pair.name not in ARCHITECTURES:
        raise RealCompoError(
            f"--random-weights is for full-size pairs: {', '.join(ARCHITECTURES)}; {pair.name} has weights of its own"
        )
    architecture = ARCHITECTURES[pair.name]
    return write_random_pair(pair, architecture, folder, report)


def write_random_pair(pair: Pair, architecture: Architecture, folder: Path, report: Callable[[str], None]) -> Pair:
    base, spatial = folder / "text_to_image", folder / "spatial"
    controls = tuple(
        replace(control, model=str(folder / f"{control.component}-{control.kind}")) for control in pair.controls
    )
    components: dict[Path, Callable[[], Any]] = {
        base / "unet": lambda: UNet2DConditionModel(**architecture.unet),
        base / "vae": lambda: AutoencoderKL(**architecture.vae),
        base / "text_encoder": lambda: CLIPTextModel(CLIPTextConfig(**architecture.text_encoder)),
    }
    if second := architecture.text_encoder_2:
        components[base / "text_encoder_2"] = lambda: CLIPTextModelWithProjection(CLIPTextConfig(**second))
    components |= {Path(one.model): partial(_make_attached, architecture, one.component, pair.name) for one in controls}
    if not pair.is_over_base:
        components[spatial / "unet"] = lambda: _make_grounded(architecture, base / "unet")
    for place, make in components.items():
        if not place.is_dir():
            report(f"random weights: {place.relative_to(folder)}")
            _write_whole(place, make)
    PNDMScheduler(**architecture.scheduler).save_pretrained(base / "scheduler")
    family = family_of(architecture.unet)
    for name, pad in zip(family.tokenizers, family.pads, strict=True):
        _write_tokenizer(base / name, architecture.text_encoder, pad)
    own = str(base if pair.is_over_base else spatial)
    return replace(pair, text_to_image=str(base), spatial=own, controls=controls)


def _write_whole(place: Path, make: Callable[[], Any]) -> None:
    """Save a new model in half precision, under a temporary name until it is all there."""
    torch.manual_seed(SEED)
    with whole_folder(place) as scratch, no_progress_bar(), _half_precision():  # never all of them in fp32
        make().save_pretrained(scratch)


@contextmanager
def _half_precision() -> Iterator[None]:
    """New tensors are fp16."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.half)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _make_grounded(architecture: Architecture, base: Path) -> UNet2DConditionModel:
    unet = _open_gates(UNet2DConditionModel(**architecture.unet, attention_type="gated"))
    if architecture.shared_unet:
        unet.load_state_dict(UNet2DConditionModel.from_pretrained(base).state_dict(), strict=False)
    return unet


def _open_gates(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    for module in unet.modules():
        if isinstance(module, GatedSelfAttentionDense):
            torch.nn.init.constant_(module.alpha_attn, GATE)
            torch.nn.init.constant_(module.alpha_dense, GATE)
    return unet


def _make_attached(architecture: Architecture, component: Component, pair: str) -> ControlNetModel | T2IAdapter:
    if component == "adapter":
        return T2IAdapter(**ADAPTERS[pair])
    return _open_convolutions(make_controlnet(architecture, UNIONS.get(pair)))


def make_controlnet(architecture: Architecture, kinds: int | None = None) -> Any:
    """A fresh ControlNet of the architecture's UNet, or one that reads so many kinds. It adds nothing yet."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**architecture.unet)
    if kinds:
        return _make_union(unet, kinds)
    channels = IMAGE_CHANNELS[: len(architecture.vae["block_out_channels"])]
    return ControlNetModel.from_unet(unet, load_weights_from_unet=False, conditioning_embedding_out_channels=channels)


def _make_union(unet: UNet2DConditionModel, kinds: int) -> ControlNetUnionModel:
    empty = ControlNetUnionModel.from_unet(unet, load_weights_from_unet=False)
    return ControlNetUnionModel.from_config(public(empty.config) | {"num_control_type": kinds})


def _open_convolutions(controlnet: Any) -> Any:
    ends = (controlnet.controlnet_cond_embedding.conv_out, *controlnet.controlnet_down_blocks)
    for convolution in (*ends, controlnet.controlnet_mid_block):
        convolution.reset_parameters()
    return controlnet


def _write_tokenizer(folder: Path, text_encoder: dict[str, Any], pad: str) -> None:
    """CLIP's vocabulary is not to be had either: this one spells, and has the same first and last ids."""
    folder.mkdir(parents=True, exist_ok=True)
    start, end = "<|startoftext|>", "<|endoftext|>"
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate(letters)}
    vocabulary |= {f"{letter}</w>": len(letters) + i for i, letter in enumerate(letters)}
    vocabulary |= {start: text_encoder["bos_token_id"], end: text_encoder["eos_token_id"]}
    tokenizer = Tokenizer(BPE(vocabulary, [], end_of_word_suffix="</w>", unk_token=end))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    special = [(token, vocabulary[token]) for token in (start, end)]
    tokenizer.add_special_tokens([start, end])
    tokenizer.post_processor = TemplateProcessing(single=f"{start} $A {end}", special_tokens=special)
    tokenizer.save(str(folder / "tokenizer.json"))
    pad_token = pad if pad in vocabulary else f"{pad}</w>"
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": pad_token}))
