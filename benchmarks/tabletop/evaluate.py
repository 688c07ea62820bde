"""Measure a model in training: `python -m benchmarks.tabletop.evaluate MODEL --work outputs/train`.

The VAE alone, on held-out renderings that went through it; or a UNet's latest average: what it draws from held-out
captions, and where its attention looks in noised renderings whose truth is known.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import typer
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file

from benchmarks.tabletop import models
from benchmarks.tabletop.attention import lift
from benchmarks.tabletop.data import Batch, describe, drop_captions, generator_of, vae_input
from benchmarks.tabletop.scenes import PAIR_STYLES, Scene, Style, held_out_scenes, render
from benchmarks.tabletop.score import Scores, mean_scores, score_image
from benchmarks.tabletop.train import Denoiser, grounding

TIMESTEPS = (100, 300, 500, 700, 900)
BATCH = 25
STYLE_OF: dict[str, Style] = {"text_to_image": "realistic", "spatial": "coarse", "details": "realistic"}

Pictures = NDArray[np.float32]  # (N, 128, 128, 3) in 0..1


def main(
    model: Annotated[Literal["vae", "text_to_image", "spatial", "details"], typer.Argument()],
    work: Annotated[Path, typer.Option(help="Where training keeps its checkpoints.")],
    scenes: Annotated[int, typer.Option(min=1)] = 100,
    steps: Annotated[int, typer.Option(min=1, help="Of DPM-Solver++ 2M.")] = 20,
    guidance_scale: Annotated[float, typer.Option()] = 2.5,
    sheet: Annotated[Path | None, typer.Option(help="PNG of the first pictures.")] = None,
) -> None:
    """Print a JSON object for each measurement."""
    torch.manual_seed(0)
    asked, vae = held_out_scenes(scenes), load_vae(work)
    if model == "vae":
        for style in PAIR_STYLES:
            pictures = renderings(asked, style)
            report(style, pictures, asked)
            report(f"{style} through the VAE", returned := roundtrip(vae, pictures), asked)
            save_sheet(sheet and sheet.with_stem(f"{sheet.stem}-{style}"), pictures, returned)
        return
    denoiser = load_average(work, model)
    print(json.dumps({"model": model, "lift": lifts(denoiser, vae, asked, model)}), flush=True)
    drawn = draw_pictures(denoiser, vae, asked, model, steps, guidance_scale)
    report(model, drawn, asked)
    save_sheet(sheet, drawn)


def load_vae(work: Path) -> AutoencoderKL:
    """As `train_vae` has saved it, or while it trains the latest average, whose latents the UNets do not know."""
    if (work / "vae" / "config.json").exists():
        return AutoencoderKL.from_pretrained(work / "vae", low_cpu_mem_usage=False).eval()
    return fill(models.make_vae(), load_file(work / "vae.safetensors"), "average.")


def load_average(work: Path, model: str) -> Denoiser:
    """What the later models' checkpoints lack, the text model, they have from the text-to-image one."""
    denoiser = fill(Denoiser(), load_file(work / "text_to_image.safetensors"), "average.")
    if model == "details":
        fill(denoiser, load_file(work / "details.safetensors"), "average.")
    if model == "spatial":
        fill(denoiser, load_file(work / "spatial.safetensors"), "average.denoiser.")
    return denoiser


def fill(module: Any, tensors: Batch, prefix: str) -> Any:
    """The module with those of the tensors whose names start with `prefix`, to be used as it is."""
    state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    module.load_state_dict(state, strict=False)
    return module.requires_grad_(False).eval()


def renderings(scenes: Sequence[Scene], style: Style) -> Pictures:
    return np.stack([render(scene, style, np.random.default_rng((5, i))) for i, scene in enumerate(scenes)])


@torch.no_grad()
def roundtrip(vae: AutoencoderKL, pictures: Pictures) -> Pictures:
    return np.concatenate([decode(vae, chunk) for chunk in encode(vae, pictures).split(BATCH)])


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: Pictures) -> torch.Tensor:
    x = vae_input(torch.from_numpy(255 * pictures))
    means = [vae.encode(chunk).latent_dist.mean for chunk in x.split(BATCH)]
    return torch.cat(means) * vae.config.scaling_factor


@torch.no_grad()
def decode(vae: AutoencoderKL, latents: torch.Tensor) -> Pictures:
    y = vae.decode(latents / vae.config.scaling_factor).sample
    return (y / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()


@torch.no_grad()
def draw_pictures(
    denoiser: Denoiser, vae: AutoencoderKL, scenes: Sequence[Scene], model: str, steps: int, guidance_scale: float
) -> Pictures:
    """From captions, and for the spatial model boxes, by DPM-Solver++ 2M."""
    drawn = []
    for start in range(0, len(scenes), BATCH):
        batch = describe(scenes[start : start + BATCH])
        x = torch.randn(len(batch["ids"]), 4, 16, 16, generator=torch.Generator().manual_seed(start))
        scheduler = DPMSolverMultistepScheduler.from_config(models.make_scheduler().config)
        scheduler.set_timesteps(steps)
        for t in scheduler.timesteps:
            without, conditional = predict_both(denoiser, batch, x, t, model)
            x = scheduler.step(without + guidance_scale * (conditional - without), t, x).prev_sample
        drawn.append(decode(vae, x))
    return np.concatenate(drawn)


def predict_both(
    denoiser: Denoiser, batch: Batch, x: torch.Tensor, t: torch.Tensor, model: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Velocities without and with the caption and, for the spatial model, boxes."""
    count = len(x)
    twice = {key: torch.cat([value, value]) for key, value in batch.items()}
    empty = np.arange(2 * count) < count
    twice["ids"] = drop_captions(twice["ids"], empty)
    both = predict(denoiser, twice, torch.cat([x, x]), t.expand(count).repeat(2), model, ~torch.from_numpy(empty))
    return both[:count], both[count:]


def predict(
    denoiser: Denoiser, batch: Batch, x: torch.Tensor, t: torch.Tensor, model: str, grounded: torch.Tensor
) -> torch.Tensor:
    """Velocities; `grounded` (B,) bool says which rows the spatial model gives boxes to."""
    text = denoiser.text_encoder(batch["ids"]).last_hidden_state
    present = (batch["boxes"][..., 2] > 0) & grounded[:, None]
    kwargs = {"gligen": grounding(denoiser, batch, present)} if model == "spatial" else None
    return denoiser.unet(x, t, text, cross_attention_kwargs=kwargs).sample


@torch.no_grad()
def lifts(denoiser: Denoiser, vae: AutoencoderKL, scenes: Sequence[Scene], model: str) -> dict[int, float]:
    """Mean lift over objects by timestep, in noised renderings in the model's style."""
    latents, batch = encode(vae, renderings(scenes, STYLE_OF[model])), describe(scenes)
    noise = torch.randn(latents.shape, generator=generator_of("lift", 0))
    means = {}
    for timestep in TIMESTEPS:
        t = torch.full((len(latents),), timestep)
        noisy = models.make_scheduler().add_noise(latents, noise, t)
        predict(denoiser, batch, noisy, t, model, torch.ones(len(t), dtype=torch.bool))
        maps = torch.stack([recorder.take() for recorder in denoiser.maps]).mean(0)
        means[timestep] = round(float(lift(maps, batch["boxes"], batch["owners"]).nanmean()), 2)
    return means


def report(name: str, pictures: Pictures, scenes: Sequence[Scene]) -> None:
    scores: Scores = mean_scores(score_image(image, scene) for image, scene in zip(pictures, scenes, strict=True))
    print(json.dumps({"pictures": name, **{key: round(value, 3) for key, value in asdict(scores).items()}}), flush=True)


def save_sheet(path: Path | None, *rows: Pictures, columns: int = 10) -> None:
    """The first pictures of each row; of a single row, its first 40 in four."""
    if path:
        wide = [row[i : i + columns] for row in rows for i in range(0, columns if rows[1:] else 4 * columns, columns)]
        sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in wide if len(row) == columns])
        Image.fromarray((255 * sheet).round().astype(np.uint8)).save(path)


if __name__ == "__main__":
    typer.run(main)
