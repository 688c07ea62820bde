"""Distil Tabletop's models to 8 steps: `python -m benchmarks.tabletop.train_distilled`.

A LoRA for each model, so that one step of DDIM does what three of DPM-Solver++ 2M did, with guidance at any scale from
1 to 4 (guidance is preserved, as in Hyper-SD's LoRAs "CFG"; the targets are progressive distillation's, arXiv
2202.00512). First the models as they are draw training scenes in 24 steps, and the latents at every third one are kept.
A picture is handed over from the spatial model to the other at a step drawn at random: so both models learn from
latents that either of them made, as RealCompo's are.
"""

from pathlib import Path
from typing import Annotated

import torch
import typer
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, StableDiffusionPipeline
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from benchmarks.tabletop import models
from benchmarks.tabletop.data import BATCH, SEED, Batch, describe, generator_of, rng_of, scene_of
from benchmarks.tabletop.evaluate import predict_both
from benchmarks.tabletop.fit import fit, one_cycle
from benchmarks.tabletop.models import halve
from benchmarks.tabletop.train import Denoiser, load_denoiser
from runtime.cli import plain_errors
from runtime.words import MODELS, Model

STEPS = 8  # of a distilled run
PER_STEP = 3  # of the teacher's steps in each
TAUGHT = 64  # batches of pictures that the teachers draw
ALONE = 1 / 3  # of them by one model from first to last, for each
GUIDANCE = (1.0, 4.0)
TRAINING_STEPS = 600
PEAK_RATE = 1e-3
RANK = 16
# All but what decides where words look: RealCompo reads that attention
LAYERS = r".*((attn1|fuser\.attn)\.to_[qkv]|attn2\.to_v|to_out\.0|net\.0\.proj|net\.2|conv(1|2|_in|_out))"


def main(
    pair: Annotated[Path, typer.Option(help="Whose models to distil.")] = Path("engines/tabletop"),
    out: Annotated[Path | None, typer.Option(help="Folder of the LoRAs. Default: the pair's.")] = None,
    work: Annotated[Path, typer.Option(help="Checkpoints and taught pictures; delete it to start afresh.")] = Path(
        "outputs/train-distilled"
    ),
    steps: Annotated[int, typer.Option(min=1, help="Of training, for each model.")] = TRAINING_STEPS,
) -> None:
    """Distil both models. Stop it with Ctrl-C at any time: the same command resumes."""
    with plain_errors("interrupted: the same command resumes"):
        torch.manual_seed(SEED)
        work.mkdir(parents=True, exist_ok=True)
        denoisers: dict[Model, Denoiser] = {model: load_denoiser(pair, model).requires_grad_(False) for model in MODELS}
        for model, denoiser in denoisers.items():
            taught = teach(denoisers, work, model)
            learn(denoiser, model, taught, steps, work)
            save_lora(denoiser, (out or pair) / f"lora-tabletop-{STEPS}steps-{model}.safetensors")
            denoisers[model] = load_denoiser(pair, model).requires_grad_(False)


def teach(denoisers: dict[Model, Denoiser], work: Path, model: Model) -> Batch:
    """What one model has to learn.

    Latents before and after a distilled step (N, 4, 16, 16), their step (N,), guidance scales (N,), and of the scene
    what `describe` gives.
    """
    chunks = [_taught(denoisers, work, index) for index in track(range(TAUGHT), f"pictures for {model}")]
    rows = [row for chunk in chunks for row in _steps_of(chunk, model)]
    return {key: torch.cat([row[key] for row in rows]) for key in rows[0]}


def _steps_of(chunk: Batch, model: Model) -> list[Batch]:
    """The distilled steps of a batch of pictures that a model made."""
    handed_over, states = int(chunk["handed_over"]), chunk["latents"]
    steps = range(handed_over) if model == "spatial" else range(handed_over, STEPS)
    scene = {key: value for key, value in chunk.items() if key not in ("handed_over", "latents")}
    return [{**scene, "before": states[k], "after": states[k + 1], "step": torch.full((BATCH,), k)} for k in steps]


def _taught(denoisers: dict[Model, Denoiser], work: Path, index: int) -> Batch:
    """A batch of pictures as the teachers draw it, kept in a file: latents (9, B, 4, 16, 16)."""
    path = work / f"taught-{index:03}.safetensors"
    if not path.exists():
        save_file(_draw(denoisers, index), path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)
    return load_file(path)


@torch.no_grad()
def _draw(denoisers: dict[Model, Denoiser], index: int) -> Batch:
    rng, scenes = rng_of("distilled", index), [scene_of(BATCH * index + k) for k in range(BATCH)]
    handed_over = _handed_over(rng.random(), rng.random())
    low, high = GUIDANCE
    scale = torch.from_numpy(rng.uniform(low, high, BATCH)).float()
    batch, x = describe(scenes), torch.randn(BATCH, 4, 16, 16, generator=generator_of("distilled", index))
    scheduler = DPMSolverMultistepScheduler.from_config(models.make_scheduler().config, timestep_spacing="trailing")
    scheduler.set_timesteps(STEPS * PER_STEP)
    states = [x]
    for k, t in enumerate(scheduler.timesteps):
        model: Model = "spatial" if k < handed_over * PER_STEP else "text_to_image"
        x = scheduler.step(guided(denoisers[model], model, batch, x, t.expand(BATCH), scale), t, x).prev_sample
        states += [x] if k % PER_STEP == PER_STEP - 1 else []
    drawn = {"latents": torch.stack(states), "scale": scale, "handed_over": torch.tensor(handed_over)}
    return {**batch, **drawn}


def _handed_over(kind: float, share: float) -> int:
    """The distilled step from which the text-to-image model draws."""
    if kind < 2 * ALONE:
        return 0 if kind < ALONE else STEPS
    return 1 + int(share * (STEPS - 1))


def guided(
    denoiser: Denoiser, model: Model, batch: Batch, x: torch.Tensor, t: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """The velocity (B, 4, 16, 16) with guidance at scales (B,)."""
    without, conditional = predict_both(denoiser, batch, x, t, model)
    return without + scale.view(-1, 1, 1, 1) * (conditional - without)


def learn(denoiser: Denoiser, model: Model, taught: Batch, steps: int, work: Path) -> None:
    """Train a LoRA in place, so that one step of DDIM leads where the teacher's three lead."""
    denoiser.unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=LAYERS))
    fit(f"distilled-{model}", denoiser.unet, lambda step: distillation_loss(denoiser, model, taught, step), steps,
        one_cycle(PEAK_RATE, steps, warm_up=50), work)  # fmt: skip


def distillation_loss(denoiser: Denoiser, model: Model, taught: Batch, step: int) -> torch.Tensor:
    """How far the guided velocity is from the one that leads there, on a batch that `step` alone decides."""
    rows = torch.from_numpy(rng_of(f"distilled-{model}", step).integers(len(taught["step"]), size=BATCH))
    batch = {key: value[rows] for key, value in taught.items()}
    t, wanted = leading(batch["before"], batch["after"], batch["step"])
    predicted = guided(denoiser, model, batch, batch["before"], t, batch["scale"])
    return (F.mse_loss(predicted, wanted, reduction="none").mean((1, 2, 3)) / batch["scale"]).mean()


def leading(before: torch.Tensor, after: torch.Tensor, step: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Timesteps (B,) of distilled steps, and the velocities with which DDIM goes from latents to latents."""
    scheduler = DDIMScheduler.from_config(models.make_scheduler().config, timestep_spacing="trailing")
    scheduler.set_timesteps(STEPS)
    placed = scheduler.timesteps.tolist()
    kept = torch.tensor([float(scheduler.alphas_cumprod[t]) for t in placed] + [float(scheduler.final_alpha_cumprod)])
    angle = torch.arccos(kept.sqrt())  # at which x = cos * clean + sin * noise
    now, following = (angle[step + k].view(-1, 1, 1, 1) for k in (0, 1))
    turn = now - following
    return scheduler.timesteps[step], (turn.cos() * before - after) / turn.sin()


def save_lora(denoiser: Denoiser, file: Path) -> None:
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(halve(denoiser.unet)))
    StableDiffusionPipeline.save_lora_weights(file.parent, unet_lora_layers=layers, weight_name=file.name)


if __name__ == "__main__":
    typer.run(main)
