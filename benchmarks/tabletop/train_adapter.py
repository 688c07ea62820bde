"""Train a T2I-Adapter over Tabletop's text-to-image UNet: `python -m benchmarks.tabletop.train_adapter KIND`.

The standard recipe (Mou et al., arXiv 2302.08453): a small network reads the control image once, whatever the
timestep, and what it sees is added to the UNet's way down. The UNet and the text model are frozen. High noise is drawn
more often, as in the paper: there a picture's structure is decided.
"""

from pathlib import Path
from typing import Annotated

import torch
import typer
from diffusers import T2IAdapter

from benchmarks.tabletop.controls import Kind, control_images, render_maps
from benchmarks.tabletop.data import BATCH, SCENES, SEED, Batch, draw, drop_captions, encode_scenes
from benchmarks.tabletop.fit import fit, one_cycle
from benchmarks.tabletop.models import halve
from benchmarks.tabletop.train import Denoiser, load_denoiser, load_vae, velocity_loss
from benchmarks.tabletop.train_controlnet import EMPTY_CAPTION
from runtime.cli import plain_errors

STEPS = 1_300
PEAK_RATE = 2e-3


def main(
    kind: Annotated[Kind, typer.Argument(help="What the control images show.")],
    pair: Annotated[Path, typer.Option(help="Whose text-to-image UNet to control.")] = Path("engines/tabletop"),
    out: Annotated[Path | None, typer.Option(help="Default: adapter-KIND in the pair's folder.")] = None,
    work: Annotated[Path, typer.Option(help="Checkpoints and encoded scenes; delete it to start afresh.")] = Path(
        "outputs/train-adapters"
    ),
    steps: Annotated[int, typer.Option(min=1)] = STEPS,
) -> None:
    """Train a T2I-Adapter. Stop it with Ctrl-C at any time: the same command resumes."""
    with plain_errors("interrupted: the same command resumes"):
        torch.manual_seed(SEED)
        work.mkdir(parents=True, exist_ok=True)
        denoiser = load_denoiser(pair, "text_to_image").requires_grad_(False)
        adapter = make_adapter(denoiser)
        data = encode_scenes(load_vae(pair), "realistic", work) | {"maps": render_maps(kind, SCENES)}
        fit(f"adapter-{kind}", adapter, lambda step: adapter_loss(denoiser, adapter, data, kind, step), steps,
            one_cycle(PEAK_RATE, steps), work)  # fmt: skip
        halve(adapter).save_pretrained(out or pair / f"adapter-{kind}")


def make_adapter(denoiser: Denoiser) -> T2IAdapter:
    """As large as the UNet's way down: 128x128 pixels become features of 16x16, 8x8 and 4x4."""
    return T2IAdapter(channels=list(denoiser.unet.config.block_out_channels), num_res_blocks=2, downscale_factor=8)


def adapter_loss(denoiser: Denoiser, adapter: T2IAdapter, data: Batch, kind: Kind, step: int) -> torch.Tensor:
    """How far the controlled velocity is from the scenes' own, on a batch that `step` alone decides."""
    batch, rng = draw(data, f"adapter-{kind}", step)
    ids = drop_captions(batch["ids"], rng.random(BATCH) < EMPTY_CAPTION)
    text = denoiser.text_encoder(ids).last_hidden_state
    features = adapter(control_images(batch["maps"], kind))

    def predict(noisy: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return denoiser.unet(noisy, timestep, text, down_intrablock_additional_residuals=list(features)).sample

    return velocity_loss(predict, batch["latents"], step)


if __name__ == "__main__":
    typer.run(main)
