"""Train a ControlNet over Tabletop's text-to-image UNet: `python -m benchmarks.tabletop.train_controlnet KIND`.

The standard recipe (arXiv 2302.05543): a copy of the UNet's way down and middle, joined to it by convolutions that
start from zero, on realistic scenes with their captions and control images. The UNet and the text model are frozen.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from diffusers import ControlNetModel, UNet2DConditionModel

from benchmarks.tabletop.controls import Kind, control_images, render_maps
from benchmarks.tabletop.data import BATCH, SCENES, SEED, Batch, draw, drop_captions, encode_scenes
from benchmarks.tabletop.fit import fit, one_cycle
from benchmarks.tabletop.models import halve
from benchmarks.tabletop.train import Denoiser, load_denoiser, load_vae, velocity_loss
from runtime.cli import plain_errors


@dataclass(frozen=True)
class Recipe:
    """How a kind's ControlNet is made."""

    steps: int
    attention: bool = True  # without, it is half as large, as diffusers' small ControlNets for SDXL are


RECIPES: dict[Kind, Recipe] = {
    "segmentation": Recipe(2_000),
    "depth": Recipe(1_200),
    "canny": Recipe(1_200, attention=False),
}
PEAK_RATE = 1e-3
FRESH_FACTOR = 3.0  # of the rate, for the layers that the UNet has not trained already
EMPTY_CAPTION = 0.2  # of samples: without words, the map alone must tell what to draw
EMBEDDING_CHANNELS = (8, 16, 32, 64)  # three strides of 2: from 128x128 pixels to 16x16 latents


def main(
    kind: Annotated[Kind, typer.Argument(help="What the control images show.")],
    pair: Annotated[Path, typer.Option(help="Whose text-to-image UNet to control.")] = Path("engines/tabletop"),
    out: Annotated[Path | None, typer.Option(help="Default: controlnet-KIND in the pair's folder.")] = None,
    work: Annotated[Path, typer.Option(help="Checkpoints and encoded scenes; delete it to start afresh.")] = Path(
        "outputs/train-controlnets"
    ),
    steps: Annotated[int | None, typer.Option(min=1, help="Default: the kind's own.")] = None,
) -> None:
    """Train a ControlNet. Stop it with Ctrl-C at any time: the same command resumes."""
    with plain_errors("interrupted: the same command resumes"):
        torch.manual_seed(SEED)
        work.mkdir(parents=True, exist_ok=True)
        denoiser = load_denoiser(pair, "text_to_image").requires_grad_(False)
        controlnet = make_controlnet(denoiser.unet, RECIPES[kind].attention)
        data = encode_scenes(load_vae(pair), "realistic", work) | {"maps": render_maps(kind, SCENES)}
        count = steps or RECIPES[kind].steps
        fit(f"controlnet-{kind}", controlnet, lambda step: control_loss(denoiser, controlnet, data, kind, step), count,
            one_cycle(PEAK_RATE, count), work, _factor)  # fmt: skip
        halve(controlnet).save_pretrained(out or pair / f"controlnet-{kind}")


def make_controlnet(unet: UNet2DConditionModel, attention: bool = True) -> ControlNetModel:
    """A copy of the UNet's way down and middle that adds nothing yet; without attention, of its convolutions alone."""
    whole = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=EMBEDDING_CHANNELS)
    if attention:
        return whole
    blocks = {"down_block_types": ["DownBlock2D"] * len(unet.down_blocks), "mid_block_type": "UNetMidBlock2D"}
    small = ControlNetModel.from_config(dict(whole.config) | blocks)
    weights = whole.state_dict()
    small.load_state_dict({name: weights[name] for name in small.state_dict()})
    return small


def _factor(parameter: str) -> float:
    return FRESH_FACTOR if parameter.startswith("controlnet_") else 1.0


def control_loss(denoiser: Denoiser, controlnet: ControlNetModel, data: Batch, kind: Kind, step: int) -> torch.Tensor:
    """How far the controlled velocity is from the scenes' own, on a batch that `step` alone decides."""
    batch, rng = draw(data, f"controlnet-{kind}", step)
    ids = drop_captions(batch["ids"], rng.random(BATCH) < EMPTY_CAPTION)
    text, images = denoiser.text_encoder(ids).last_hidden_state, control_images(batch["maps"], kind)

    def predict(noisy: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        down, middle = controlnet(noisy, timestep, text, images, return_dict=False)
        return denoiser.unet(
            noisy, timestep, text, down_block_additional_residuals=down, mid_block_additional_residual=middle
        ).sample

    return velocity_loss(predict, batch["latents"], step)


if __name__ == "__main__":
    typer.run(main)
