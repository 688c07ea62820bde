"""A tiny bundle of real engines: random networks with the tensors that the contract names, exported to ONNX."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn
from torch.nn.functional import interpolate

from export.graphs.gradient import trace_gradient
from runtime.bundle.manifest import (
    FORMAT_VERSION,
    EngineSpec,
    FileSpec,
    Manifest,
    MapSpec,
    ModelSpec,
    PairSpec,
    SpatialSpec,
    TensorSpec,
    sha256_of,
    write_manifest,
)
from runtime.denoising.balancer import attention_loss
from runtime.words import Model, Role

CONTEXT, WIDTH, SLOTS, LATENT, MAP, IMAGE = 12, 8, 5, 8, 4, 32
LATENT_SCALE = 0.7
WORDS = ["a", "an", "the", "and", "of", "two", "left", ",", "red", "green", "blue", "ball", "balls", "cube", "cone"]
WORDS += ["cones", "ring", "umbr", "##ella", "##s"]
SCHEDULER: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "prediction_type": "epsilon",
    "_use_default_values": ["timestep_spacing", "num_train_timesteps"],
    "timestep_spacing": "leading",
}


def make_tokenizer() -> Tokenizer:
    """Word pieces, so that a word may take several tokens; no padding of its own."""
    vocabulary = {word: i for i, word in enumerate(["<unk>", *WORDS, "<start>", "<end>"])}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="<unk>"))
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in ("<unk>", "<start>", "<end>")])
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="<start> $A <end>", special_tokens=[(token, vocabulary[token]) for token in ("<start>", "<end>")]
    )
    return tokenizer


class TextEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(len(WORDS) + 3, WIDTH)
        self.positions = nn.Parameter(torch.randn(CONTEXT, WIDTH) * 0.3)

    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.tokens(input_ids) + self.positions
        return hidden, hidden.mean(1)


class Unet(nn.Module):
    """One convolution and one cross-attention at map resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.query, self.value = nn.Conv2d(4, WIDTH, 1), nn.Linear(WIDTH, 4)

    def forward(self, latents: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> tuple[Tensor, Tensor]:
        features = torch.tanh(self.conv(latents) + torch.sin(timestep.float() / 100).reshape(-1, 1, 1, 1))
        pooled = features.unflatten(3, (MAP, -1)).unflatten(2, (MAP, -1)).mean((3, 5))
        query = self.query(pooled).flatten(2).transpose(1, 2)
        maps = (query @ encoder_hidden_states.transpose(1, 2)).softmax(-1)
        attended = (maps @ self.value(encoder_hidden_states)).transpose(1, 2).reshape(-1, 4, MAP, MAP)
        return features + interpolate(attended, scale_factor=LATENT / MAP), maps


class SpatialUnet(Unet):
    def forward(  # type: ignore[override]
        self,
        latents: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        object_tokens: Tensor,
        grounding_scale: Tensor,
    ) -> tuple[Tensor, Tensor]:
        gate = grounding_scale.reshape(-1, 1, 1) * torch.tanh(object_tokens.sum(1, keepdim=True))
        return super().forward(latents, timestep, encoder_hidden_states + gate)


class Gradient(nn.Module):
    """The attention loss of a network's maps, and its gradient."""

    def __init__(self, unet: Unet) -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self, latents: Tensor, region_masks: Tensor, region_tokens: Tensor, region_weights: Tensor, **others: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            leaf = latents.detach().requires_grad_()
            _, maps = self.unet(leaf, **others)
            loss, region_maps = attention_loss(maps, region_masks, region_tokens, region_weights)
            (gradient,) = torch.autograd.grad(loss, leaf, torch.ones_like(loss))
        return loss.detach(), gradient, region_maps.detach()


class Grounding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(4 + WIDTH, WIDTH)

    def forward(self, boxes: Tensor, phrase_embeddings: Tensor, masks: Tensor) -> Tensor:
        return self.project(torch.cat([boxes, phrase_embeddings], -1) * masks.unsqueeze(-1))


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        return 1.2 * torch.tanh(self.conv(interpolate(latents, scale_factor=IMAGE / LATENT)))


@dataclass(frozen=True)
class Part:
    """A role's network, and its tensors: name -> shape after the batch, int64 where marked."""

    module: nn.Module
    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]


INTEGERS = {"input_ids"}
WORKS: dict[Role, tuple[Model, bool]] = {  # at every step: whose work, and whether also with no engine beside it
    "text_to_image": ("text_to_image", False),
    "spatial": ("spatial", True),
    "text_to_image_gradient": ("text_to_image", False),
    "spatial_gradient": ("spatial", False),
}
HIDDEN, SAMPLE, MAPS = (CONTEXT, WIDTH), (4, LATENT, LATENT), (MAP * MAP, CONTEXT)
UNET_INPUTS = {"latents": SAMPLE, "timestep": (), "encoder_hidden_states": HIDDEN}
UNET_OUTPUTS = {"noise_pred": SAMPLE, "attention_maps": MAPS}
OBJECTS = {"object_tokens": (SLOTS, WIDTH), "grounding_scale": ()}
REGIONS = {"region_masks": (SLOTS, MAP * MAP), "region_tokens": (SLOTS, CONTEXT), "region_weights": (SLOTS,)}
GRADIENT_OUTPUTS = {"loss": (), "grad_latents": SAMPLE, "region_maps": (SLOTS, MAP * MAP)}


def make_parts() -> dict[Role, Part]:
    torch.manual_seed(0)
    slots = (SLOTS, WIDTH)
    unet, spatial = Unet(), SpatialUnet()
    parts: dict[Role, Part] = {
        "text_encoder": Part(
            TextEncoder(), {"input_ids": (CONTEXT,)}, {"encoder_hidden_states": HIDDEN, "pooled_output": (WIDTH,)}
        ),
        "text_to_image": Part(unet, UNET_INPUTS, UNET_OUTPUTS),
        "spatial": Part(spatial, UNET_INPUTS | OBJECTS, UNET_OUTPUTS),
        "text_to_image_gradient": Part(Gradient(unet), UNET_INPUTS | REGIONS, GRADIENT_OUTPUTS),
        "spatial_gradient": Part(Gradient(spatial), UNET_INPUTS | OBJECTS | REGIONS, GRADIENT_OUTPUTS),
        "grounding": Part(
            Grounding(), {"boxes": (SLOTS, 4), "phrase_embeddings": slots, "masks": (SLOTS,)}, {"object_tokens": slots}
        ),
        "vae_decoder": Part(Decoder(), {"latents": SAMPLE}, {"images": (3, IMAGE, IMAGE)}),
    }
    for part in parts.values():
        part.module.eval().requires_grad_(False)
    return parts


def write_bundle(folder: Path, parts: dict[Role, Part]) -> Manifest:
    engines = {role: _write_engine(folder, role, part) for role, part in parts.items()}
    make_tokenizer().save(str(folder / "tokenizer.json"))
    model = ModelSpec(source="tiny", revision=None, sha256="0" * 64)
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        command=("build", "tiny"),
        pair=PairSpec(name="tiny", text_to_image=model, spatial=model),
        backend="onnx",
        precision="fp32",
        batch=(1, 2, 8),
        spatial=SpatialSpec(kind="gligen"),
        engines=engines,
        maps=MapSpec(resolution=(MAP, MAP), layers={"text_to_image": ("only",), "spatial": ("only",)}),
        loss_scale=1.0,
        latent_shape=SAMPLE,
        latent_scale=LATENT_SCALE,
        image_size=(IMAGE, IMAGE),
        max_regions=SLOTS,
        tokenizer=_file(folder / "tokenizer.json"),
        max_tokens=CONTEXT,
        scheduler=SCHEDULER,
    )
    write_manifest(folder, manifest)
    return manifest


def _write_engine(folder: Path, role: Role, part: Part) -> EngineSpec:
    path, (model, alone) = folder / f"{role}.onnx", WORKS.get(role, (None, False))
    batch = torch.export.Dim("batch")
    inputs = {name: _example(name, shape) for name, shape in part.inputs.items()}
    program = torch.onnx.export(
        trace_gradient(part.module, inputs) if isinstance(part.module, Gradient) else part.module,
        kwargs=inputs,
        input_names=list(part.inputs),
        output_names=list(part.outputs),
        dynamic_shapes={name: {0: batch} for name in part.inputs},
        dynamo=True,
        verbose=False,
    )
    cast(torch.onnx.ONNXProgram, program).save(path)
    return EngineSpec(
        role=role,
        model=model,
        alone=alone,
        key=role,
        graph=(_file(path),),
        plan=None,
        inputs=tuple(_tensor(name, shape) for name, shape in part.inputs.items()),
        outputs=tuple(_tensor(name, shape) for name, shape in part.outputs.items()),
        precision="fp32",
        verification={},
    )


def _example(name: str, shape: tuple[int, ...]) -> Tensor:
    return torch.ones(3, *shape, dtype=torch.int64) if name in INTEGERS else torch.randn(3, *shape)


def _tensor(name: str, shape: tuple[int, ...]) -> TensorSpec:
    return TensorSpec(name=name, dtype="int64" if name in INTEGERS else "float32", shape=("batch", *shape))


def _file(path: Path) -> FileSpec:
    return FileSpec(name=path.name, sha256=sha256_of(path))
