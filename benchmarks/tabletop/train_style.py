"""Train a style of Tabletop's text-to-image model: `python -m benchmarks.tabletop.train_style`.

A LoRA (Hu et al., arXiv 2106.09685) on the UNet, from the same captions with pictures in another style. It is written
as diffusers writes them, for `python -m export build tabletop --lora`.
"""

from pathlib import Path
from typing import Annotated

import torch
import typer
from diffusers import StableDiffusionPipeline
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from benchmarks.tabletop.data import BATCH, EMPTY_CAPTION, SEED, Batch, draw, drop_captions, encode_scenes
from benchmarks.tabletop.fit import fit, one_cycle
from benchmarks.tabletop.models import halve
from benchmarks.tabletop.scenes import Style
from benchmarks.tabletop.train import Denoiser, load_denoiser, load_vae, velocity_loss
from runtime.cli import plain_errors

STYLE: Style = "papercut"
STEPS = 800
PEAK_RATE = 3e-3
RANK = 16
LAYERS = ("to_q", "to_k", "to_v", "to_out.0", "net.0.proj", "net.2", "conv1", "conv2", "conv_in", "conv_out")


def main(
    pair: Annotated[Path, typer.Option(help="Whose text-to-image model to restyle.")] = Path("engines/tabletop"),
    out: Annotated[Path | None, typer.Option(help="Default: lora-papercut.safetensors in the pair's folder.")] = None,
    work: Annotated[Path, typer.Option(help="Checkpoints and encoded scenes; delete it to start afresh.")] = Path(
        "outputs/train-style"
    ),
    steps: Annotated[int, typer.Option(min=1)] = STEPS,
) -> None:
    """Train a style as a LoRA. Stop it with Ctrl-C at any time: the same command resumes."""
    with plain_errors("interrupted: the same command resumes"):
        torch.manual_seed(SEED)
        work.mkdir(parents=True, exist_ok=True)
        file = out or pair / f"lora-{STYLE}.safetensors"
        denoiser = load_denoiser(pair, "text_to_image").requires_grad_(False)
        denoiser.unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(LAYERS)))
        data = encode_scenes(load_vae(pair), STYLE, work)
        fit(f"lora-{STYLE}", denoiser.unet, lambda step: style_loss(denoiser, data, step), steps,
            one_cycle(PEAK_RATE, steps), work)  # fmt: skip
        layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(halve(denoiser.unet)))
        StableDiffusionPipeline.save_lora_weights(file.parent, unet_lora_layers=layers, weight_name=file.name)


def style_loss(denoiser: Denoiser, data: Batch, step: int) -> torch.Tensor:
    """How far the velocity is from that of restyled scenes, on a batch that `step` alone decides."""
    batch, rng = draw(data, STYLE, step)
    text = denoiser.text_encoder(drop_captions(batch["ids"], rng.random(BATCH) < EMPTY_CAPTION)).last_hidden_state

    def predict(noisy: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return denoiser.unet(noisy, timestep, text).sample

    return velocity_loss(predict, batch["latents"], step)


if __name__ == "__main__":
    typer.run(main)
