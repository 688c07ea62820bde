"""Train the Tabletop pair on a CPU: `python -m benchmarks.tabletop.train --out engines/tabletop --work outputs/train`.

Four stages, all resumable, each drawing its data from a fixed seed:

1. `vae`: 64x64 RGB <-> 16x16x4 latents.
2. `trunk`: one UNet and the text model learn two tasks in turns: realistic scenes from captions with GLIGEN's layers
   left out, flat scenes from captions and boxes with them in. Every step teaches shapes, colours and words.
3. `spatial`: the trunk, on flat scenes with boxes alone, taught where to look: see `Placer`. Without that it ignores
   them, see docs/tabletop.md.
4. `text_to_image`: the trunk without GLIGEN's layers, on realistic scenes and captions alone.

`--start PAIR` goes on from a saved pair: its VAE's decoder, then stages 3 and 4, each from that pair's own UNet.
"""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import CLIPTextModel

from benchmarks.tabletop import models
from benchmarks.tabletop.data import (
    BATCH,
    EMPTY_CAPTION,
    SCENES,
    SEED,
    Batch,
    draw,
    drop_captions,
    encode_scenes,
    generator_of,
    render_many,
    rng_of,
    vae_input,
)
from benchmarks.tabletop.fit import fit, one_cycle, trapezoid
from benchmarks.tabletop.scenes import PAIR_STYLES, Style
from export.graphs.attention import record_maps
from runtime.words import MAX_REGIONS, Model

STEPS = {"vae": 1_400, "decoder": 1_000, "trunk": 2_600, "spatial": 1_500, "text_to_image": 1_000}
PEAK_RATE = 1.5e-3
BRANCH_RATE = 1e-3
PLACEMENT_WEIGHT = 0.5
PROBE_WEIGHT = 0.2
UNGROUNDED = 0.1  # of the other flat samples: the caption alone must still mean something to the spatial model


def main(
    out: Annotated[Path, typer.Option(help="Where the pair goes, in diffusers' folder layout.")],
    work: Annotated[Path, typer.Option(help="Checkpoints and encoded scenes; delete it to start afresh.")],
    start: Annotated[Path | None, typer.Option(help="A saved pair whose UNets to train further.")] = None,
) -> None:
    """Train the Tabletop pair. Stop it with Ctrl-C at any time: the same command resumes."""
    torch.manual_seed(SEED)
    work.mkdir(parents=True, exist_ok=True)
    vae = train_vae(work) if start is None else train_decoder(load_vae(start), work)
    data = {style: encode_scenes(vae, style, work) for style in PAIR_STYLES}
    if start is None:
        spatial, text_to_image = _train_trunk(data, work)
    else:
        spatial, text_to_image = load_denoiser(start, "spatial"), load_denoiser(start, "text_to_image")
    placer = Placer(spatial)
    fit("spatial", placer, lambda step: placer.loss(data["flat"], step), STEPS["spatial"],
        trapezoid(BRANCH_RATE, STEPS["spatial"], warm_up=50), work, _factor)  # fmt: skip
    loss = _realistic_loss(text_to_image, data["realistic"])
    fit("text_to_image", text_to_image, loss, STEPS["text_to_image"],
        one_cycle(BRANCH_RATE, STEPS["text_to_image"]), work)  # fmt: skip
    save_pair(out, vae, spatial.text_encoder, text_to_image.unet, spatial.unet)


def _train_trunk(data: dict[Style, Batch], work: Path) -> tuple["Denoiser", "Denoiser"]:
    """The trunk twice over: what the spatial and the text-to-image branch start from."""
    trunk = Denoiser()
    fit("trunk", trunk, _loss_in_turns(trunk, data), STEPS["trunk"], trapezoid(PEAK_RATE, 3_000), work)
    trunk.text_encoder.requires_grad_(False)
    return copy.deepcopy(trunk), copy.deepcopy(trunk)


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


def train_vae(work: Path) -> AutoencoderKL:
    vae, pixels = models.make_vae(), _vae_pixels()

    def loss_of_step(step: int) -> torch.Tensor:
        loss, posterior = _reconstruction_loss(vae, pixels, "vae", step)
        return loss + 1e-3 * posterior.kl().mean() / posterior.mean[0].numel()

    fit("vae", vae, loss_of_step, STEPS["vae"], one_cycle(2e-3, STEPS["vae"]), work)
    with torch.no_grad():
        latents = vae.encode(vae_input(pixels[:256])).latent_dist.mean
    vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 4))
    return vae.eval()


def train_decoder(vae: AutoencoderKL, work: Path) -> AutoencoderKL:
    """Go on with the decoder alone: latents, and with them what UNets have learned, stay what they are."""
    pixels = _vae_pixels()
    vae.requires_grad_(False)
    for part in (vae.decoder, vae.post_quant_conv):
        part.requires_grad_(True)

    def loss_of_step(step: int) -> torch.Tensor:
        return _reconstruction_loss(vae, pixels, "decoder", step)[0]

    fit("decoder", vae, loss_of_step, STEPS["decoder"], one_cycle(1e-3, STEPS["decoder"]), work)
    return vae.eval()


def _vae_pixels() -> torch.Tensor:
    """(3000, 64, 64, 3) uint8: two realistic scenes to a flat one, none of which the UNets see."""
    realistic, flat = render_many("realistic", 2_000, offset=SCENES), render_many("flat", 1_000, offset=SCENES)
    return torch.from_numpy(np.concatenate([realistic, flat]))


def _reconstruction_loss(
    vae: AutoencoderKL, pixels: torch.Tensor, name: str, step: int
) -> tuple[torch.Tensor, DiagonalGaussianDistribution]:
    """How far 16 pictures are from what the VAE makes of them; and the posterior of their latents."""
    x = vae_input(pixels[torch.from_numpy(rng_of(name, step).integers(len(pixels), size=16))])
    posterior = vae.encode(x).latent_dist
    y = vae.decode(posterior.sample(generator_of(name, step))).sample
    edges = (y.diff(dim=2) - x.diff(dim=2)).abs().mean() + (y.diff(dim=3) - x.diff(dim=3)).abs().mean()
    return F.l1_loss(y, x) + F.mse_loss(y, x) + edges, posterior


class Denoiser(torch.nn.Module):
    """A UNet with GLIGEN's layers and the text model, trained together."""

    def __init__(self) -> None:
        super().__init__()
        self.unet = models.make_unet(grounded=True)
        self.text_encoder = models.make_text_encoder(models.make_tokenizer())


def _loss_in_turns(denoiser: Denoiser, data: dict[Style, Batch]) -> Callable[[int], torch.Tensor]:
    losses = _realistic_loss(denoiser, data["realistic"]), _flat_loss(denoiser, data["flat"])
    return lambda step: losses[step % 2](step)


def _realistic_loss(denoiser: Denoiser, data: Batch) -> Callable[[int], torch.Tensor]:
    def loss_of_step(step: int) -> torch.Tensor:
        batch, rng = draw(data, "realistic", step)
        ids = drop_captions(batch["ids"], rng.random(BATCH) < EMPTY_CAPTION)
        return _denoising_loss(denoiser, batch["latents"], denoiser.text_encoder(ids).last_hidden_state, step, None)

    return loss_of_step


def _flat_loss(denoiser: Denoiser, data: Batch) -> Callable[[int], torch.Tensor]:
    def loss_of_step(step: int) -> torch.Tensor:
        latents, text, gligen = _flat_batch(denoiser, data, step)
        return _denoising_loss(denoiser, latents, text, step, gligen)

    return loss_of_step


def _flat_batch(denoiser: Denoiser, data: Batch, step: int) -> tuple[torch.Tensor, torch.Tensor, Batch]:
    """Latents, text, and what diffusers' GLIGEN takes."""
    batch, rng = draw(data, "flat", step)
    empty = rng.random(BATCH) < EMPTY_CAPTION
    ids = drop_captions(batch["ids"], empty)
    present = (batch["boxes"][..., 2] > 0) & ~torch.from_numpy(empty | (rng.random(BATCH) < UNGROUNDED))[:, None]
    pooled = denoiser.text_encoder(batch["phrases"].flatten(0, 1)).pooler_output.unflatten(0, (BATCH, 3))
    slots = (0, 0, 0, MAX_REGIONS - 3)
    gligen = {
        "boxes": F.pad(batch["boxes"] * present[..., None], slots),
        "positive_embeddings": F.pad(pooled * present[..., None], slots),
        "masks": F.pad(present.float(), slots[2:]),
    }
    return batch["latents"], denoiser.text_encoder(ids).last_hidden_state, gligen


def _denoising_loss(
    denoiser: Denoiser, latents: torch.Tensor, text: torch.Tensor, step: int, gligen: Batch | None
) -> torch.Tensor:
    kwargs = {"gligen": gligen} if gligen else None

    def predict(noisy: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return denoiser.unet(noisy, timestep, text, cross_attention_kwargs=kwargs).sample

    return velocity_loss(predict, latents, step)


def velocity_loss(
    predict: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], latents: torch.Tensor, step: int
) -> torch.Tensor:
    """Mean squared error of the velocity (arXiv 2202.00512), more often where noise is high.

    Colours and layout are decided there, and there the noise itself says next to nothing about them: with epsilon as
    the target the same network learned shapes, but neither colours, style nor boxes, in 700 steps.
    `predict` takes noisy latents (B, 4, 16, 16) and timesteps (B,).
    """
    generator, scheduler = generator_of("noise", step), models.make_scheduler()
    t = (1000 * torch.rand(len(latents), generator=generator).sqrt()).long()
    noise = torch.randn(latents.shape, generator=generator)
    predicted = predict(scheduler.add_noise(latents, noise, t), t)
    return F.mse_loss(predicted, scheduler.get_velocity(latents, noise, t))


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
        latents, text, gligen = _flat_batch(self.denoiser, data, step)
        self.errors.clear()
        loss = _denoising_loss(self.denoiser, latents, text, step, gligen)
        boxes = gligen["boxes"][:, :3]  # all zero where a row is not grounded
        misplaced = torch.stack([_misplaced(recorder.take(), boxes) for recorder in self.recorders])
        return loss + PLACEMENT_WEIGHT * misplaced.mean() + PROBE_WEIGHT * torch.stack(self.errors).mean()


def _misplaced(attention: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of GLIGEN's attention (B, P + 30, P + 30): to its object inside a box, to none outside."""
    pixels = attention.shape[1] - MAX_REGIONS
    centres = (torch.arange(side := math.isqrt(pixels)) + 0.5) / side
    x0, y0, x1, y1 = boxes[..., None].unbind(2)  # each (B, 3, 1)
    across, down = (centres > x0) & (centres < x1), (centres > y0) & (centres < y1)  # (B, 3, side)
    inside = (down[..., :, None] & across[..., None, :]).flatten(2)  # (B, 3, P); boxes do not overlap
    seen = attention[:, :pixels, pixels : pixels + 3].transpose(1, 2)  # (B, 3, P)
    grounded = torch.where(inside, (seen + 1e-4).log(), 0).sum(1)
    elsewhere = torch.where(inside.any(1), 0, (1 - seen.sum(1) + 1e-4).log())
    return -(grounded + elsewhere).mean()


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
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=models.wrap_tokenizer(models.make_tokenizer()),
        unet=plain,
        scheduler=models.make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(dtype=torch.float16).save_pretrained(out / "text_to_image")
    spatial.half().save_pretrained(out / "spatial" / "unet")


if __name__ == "__main__":
    typer.run(main)
