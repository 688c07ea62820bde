"""Train the Tabletop pair on a CPU: `python -m benchmarks.tabletop.train --out engines/tabletop --work outputs/train`.

Four stages, all resumable, each drawing its data from a fixed seed:

1. `vae`: 128x128 RGB <-> 16x16x4 latents (autoencoder.py).
2. `text_to_image`: a UNet and the text model, on realistic scenes and captions alone, with TokenCompose's token loss.
3. `spatial`: that UNet with GLIGEN's layers, on coarse scenes with captions and boxes, taught where to look: see
   `Placer`. Without that it ignores boxes, see docs/tabletop.md.
4. `details`: the text-to-image UNet again, on all timesteps alike: gloss, shading and the ground's light.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import CLIPTextModel

from benchmarks.tabletop import models
from benchmarks.tabletop.attention import misplaced, token_loss
from benchmarks.tabletop.autoencoder import train_vae
from benchmarks.tabletop.data import (
    BATCH,
    EMPTY_CAPTION,
    SEED,
    Batch,
    draw,
    drop_captions,
    encode_scenes,
    generator_of,
)
from benchmarks.tabletop.fit import fit, trapezoid
from export.graphs.attention import find_map_layers, record_maps
from runtime.words import MAX_REGIONS, Model

STEPS = {"text_to_image": 4_000, "spatial": 2_000, "details": 2_000}
RATE = {"text_to_image": 1.5e-3, "spatial": 1e-3, "details": 8e-4}
TOKEN_WEIGHT = 0.2
VISIBLE = 750  # timesteps below which a noisy picture shows where its objects are
PLACEMENT_WEIGHT = 0.5
PROBE_WEIGHT = 0.2
UNGROUNDED = 0.1  # of the other coarse samples: the caption alone must still mean something to the spatial model


def main(
    out: Annotated[Path, typer.Option(help="Where the pair goes, in diffusers' folder layout.")],
    work: Annotated[Path, typer.Option(help="Checkpoints and encoded scenes; delete it to start afresh.")],
) -> None:
    """Train the Tabletop pair. Stop it with Ctrl-C at any time: the same command resumes."""
    torch.manual_seed(SEED)
    vae = train_vae(work)
    realistic = encode_scenes(vae, "realistic", work)
    text_to_image = train_text_to_image(realistic, work)
    spatial = train_spatial(text_to_image, encode_scenes(vae, "coarse", work), work)
    train_details(text_to_image, realistic, work)
    save_pair(out, vae, spatial.text_encoder, text_to_image.unet, spatial.unet)


def train_text_to_image(data: Batch, work: Path) -> "Denoiser":
    """From nothing, with the text model, which is frozen then."""
    torch.manual_seed(SEED)
    denoiser, steps = Denoiser(), STEPS["text_to_image"]
    fit("text_to_image", denoiser, lambda step: denoiser.loss(realistic_batch(denoiser, data, step), step), steps,
        trapezoid(RATE["text_to_image"], steps), work)  # fmt: skip
    denoiser.text_encoder.requires_grad_(False)
    return denoiser


def train_spatial(text_to_image: "Denoiser", data: Batch, work: Path) -> "Denoiser":
    """From the text-to-image model, as GLIGEN does, but in all weights."""
    torch.manual_seed(SEED)
    placer, steps = Placer(copy.deepcopy(text_to_image)), STEPS["spatial"]
    fit("spatial", placer, lambda step: placer.loss(data, step), steps,
        trapezoid(RATE["spatial"], steps, warm_up=50), work, _factor)  # fmt: skip
    return placer.denoiser


def train_details(text_to_image: "Denoiser", data: Batch, work: Path) -> None:
    """What is decided late in a run, of which the first training saw too little to learn it: in place."""
    torch.manual_seed(SEED)
    steps, seen = STEPS["details"], STEPS["text_to_image"]

    def loss_of_step(step: int) -> torch.Tensor:
        return text_to_image.loss(realistic_batch(text_to_image, data, seen + step), seen + step, noisier=False)

    fit("details", text_to_image, loss_of_step, steps, trapezoid(RATE["details"], steps, decay=0.6), work)


def load_vae(pair: Path) -> AutoencoderKL:
    """The VAE of a saved pair, in float32."""
    return _load(AutoencoderKL, pair / "text_to_image" / "vae")


def load_denoiser(pair: Path, model: Model) -> "Denoiser":
    """A model of a saved pair, in float32 and with the pair's text model frozen."""
    denoiser = Denoiser()
    denoiser.unet = _load(UNet2DConditionModel, pair / model / "unet")
    denoiser.text_encoder = CLIPTextModel.from_pretrained(pair / "text_to_image" / "text_encoder").float()
    denoiser.text_encoder.requires_grad_(False)
    return denoiser


def _load(kind: Any, folder: Path) -> Any:
    """Unlike `from_pretrained`, without the folder's name in its config, to be saved with it."""
    model = kind.from_config(kind.load_config(folder))
    model.load_state_dict(load_file(folder / "diffusion_pytorch_model.safetensors"))
    return model


def _factor(parameter: str) -> float:
    """GLIGEN's layers start from nothing; the rest of the spatial model does not."""
    return 3.0 if any(part in parameter for part in ("fuser", "position_net", "probes")) else 1.0


@dataclass
class Sample:
    """A batch as a denoiser is trained on."""

    latents: torch.Tensor  # (B, 4, 16, 16)
    text: torch.Tensor  # (B, 16, 64)
    boxes: torch.Tensor  # (B, 3, 4)
    owners: torch.Tensor  # (B, 16, 3) bool, none where the caption is empty
    gligen: Batch | None = None  # as diffusers takes it


class Denoiser(torch.nn.Module):
    """A UNet with GLIGEN's layers and the text model, trained together."""

    def __init__(self) -> None:
        super().__init__()
        self.unet = models.make_unet(grounded=True)
        self.text_encoder = models.make_text_encoder(models.make_tokenizer())
        self.maps = record_maps(self.unet, find_map_layers(self.unet, (16, 16))[1])

    def loss(self, sample: Sample, step: int, visible: int = VISIBLE, noisier: bool = True) -> torch.Tensor:
        """The velocity's error, and the token loss at timesteps below `visible`."""
        noisy, t, velocity = noised(sample.latents, step, noisier)
        kwargs = {"gligen": sample.gligen} if sample.gligen else None
        predicted = self.unet(noisy, t, sample.text, cross_attention_kwargs=kwargs).sample
        tokens = token_loss([map_.take() for map_ in self.maps], sample.boxes, sample.owners, t < visible)
        return F.mse_loss(predicted, velocity) + TOKEN_WEIGHT * tokens


def realistic_batch(denoiser: Denoiser, data: Batch, step: int) -> Sample:
    """Some captions are left out: classifier-free guidance needs the unconditional prediction."""
    batch, rng = draw(data, "realistic", step)
    empty = rng.random(BATCH) < EMPTY_CAPTION
    text = denoiser.text_encoder(drop_captions(batch["ids"], empty)).last_hidden_state
    return Sample(batch["latents"], text, batch["boxes"], batch["owners"] & ~torch.from_numpy(empty)[:, None, None])


def coarse_batch(denoiser: Denoiser, data: Batch, step: int) -> Sample:
    """Some captions are left out, with the boxes; of the others, some boxes alone."""
    batch, rng = draw(data, "coarse", step)
    empty = rng.random(BATCH) < EMPTY_CAPTION
    text = denoiser.text_encoder(drop_captions(batch["ids"], empty)).last_hidden_state
    present = (batch["boxes"][..., 2] > 0) & ~torch.from_numpy(empty | (rng.random(BATCH) < UNGROUNDED))[:, None]
    gligen = grounding(denoiser, batch, present)
    return Sample(batch["latents"], text, batch["boxes"], batch["owners"] & present.any(1)[:, None, None], gligen)


def grounding(denoiser: Denoiser, batch: Batch, present: torch.Tensor) -> Batch:
    """Boxes and phrases of the objects that are `present` (B, 3) bool, padded to GLIGEN's 30 slots."""
    pooled = denoiser.text_encoder(batch["phrases"].flatten(0, 1)).pooler_output.unflatten(0, present.shape)
    slots = (0, 0, 0, MAX_REGIONS - 3)
    return {
        "boxes": F.pad(batch["boxes"] * present[..., None], slots),
        "positive_embeddings": F.pad(pooled * present[..., None], slots),
        "masks": F.pad(present.float(), slots[2:]),
    }


def velocity_loss(
    predict: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], latents: torch.Tensor, step: int
) -> torch.Tensor:
    """How far the velocity that `predict` sees in noisy latents (B, 4, 16, 16) at timesteps (B,) is off."""
    noisy, t, velocity = noised(latents, step)
    return F.mse_loss(predict(noisy, t), velocity)


def noised(latents: torch.Tensor, step: int, noisier: bool = True) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noisy latents, timesteps (B,) and velocities (arXiv 2202.00512), if `noisier` more often where noise is high.

    Colours and layout are decided there, and there the noise itself says next to nothing about them: with epsilon as
    the target the same network learned shapes, but neither colours, style nor boxes, in 700 steps.
    """
    generator, scheduler = generator_of("noise", step), models.make_scheduler()
    share = torch.rand(len(latents), generator=generator)
    t = (1000 * (share.sqrt() if noisier else share)).long()
    noise = torch.randn(latents.shape, generator=generator)
    return scheduler.add_noise(latents, noise, t), t, scheduler.get_velocity(latents, noise, t)


class Placer(torch.nn.Module):
    """A denoiser learning to place: GLIGEN's attention is supervised, and what it sees must tell where a pixel is."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser
        layers = [name for name, _ in denoiser.unet.named_modules() if name.endswith("fuser.attn")]
        # the way down is left out: three convolutions from the input, a pixel cannot know where it is
        layers = [name for name in layers if not name.startswith("down")]
        self.recorders = record_maps(denoiser.unet, tuple(layers))
        attentions = [denoiser.unet.get_submodule(name) for name in layers]
        self.probes = torch.nn.ModuleList(torch.nn.Linear(attention.query_dim, 2) for attention in attentions)
        self.errors: list[torch.Tensor] = []
        for attention, probe in zip(attentions, self.probes, strict=True):
            attention.register_forward_pre_hook(lambda _, inputs, probe=probe: self._probe(probe, inputs[0]))

    def _probe(self, probe: torch.nn.Module, seen: torch.Tensor) -> None:
        """How far pixels' positions, read linearly from (B, P + 30, C), are from where they are."""
        pixels = seen[:, :-MAX_REGIONS]
        side = math.isqrt(pixels.shape[1])
        axis = torch.linspace(-1, 1, side)
        self.errors.append(F.mse_loss(probe(pixels), torch.cartesian_prod(axis, axis).expand(len(pixels), -1, -1)))

    def loss(self, data: Batch, step: int) -> torch.Tensor:
        sample = coarse_batch(self.denoiser, data, step)
        self.errors.clear()
        loss = self.denoiser.loss(sample, step, visible=1000)  # boxes tell where objects are, whatever the noise
        assert sample.gligen is not None
        boxes = sample.gligen["boxes"][:, :3]  # all zero where a row is not grounded
        lost = torch.stack([misplaced(recorder.take(), boxes) for recorder in self.recorders])
        return loss + PLACEMENT_WEIGHT * lost.mean() + PROBE_WEIGHT * torch.stack(self.errors).mean()


def save_pair(
    out: Path,
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    text_to_image: UNet2DConditionModel,
    spatial: UNet2DConditionModel,
) -> None:
    """Save `text_to_image/`, a whole Stable Diffusion pipeline, and `spatial/`, the UNet to put in its place."""
    plain = models.make_unet(grounded=False)
    plain.load_state_dict({key: text_to_image.state_dict()[key] for key in plain.state_dict()})
    pipeline = StableDiffusionPipeline(
        vae=models.halve(vae),
        text_encoder=models.halve(text_encoder),
        tokenizer=models.wrap_tokenizer(models.make_tokenizer()),
        unet=models.halve(plain),
        scheduler=models.make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(out / "text_to_image")
    models.halve(spatial).save_pretrained(out / "spatial" / "unet")


if __name__ == "__main__":
    typer.run(main)
