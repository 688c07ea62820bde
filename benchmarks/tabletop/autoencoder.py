"""The Tabletop VAE: 128x128 RGB <-> 16x16x4, trained on close-ups of objects and on whole pictures.

python -m benchmarks.tabletop.autoencoder --work outputs/train
"""

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch.nn import functional as F

from benchmarks.tabletop import models
from benchmarks.tabletop.data import SCENES, SEED, generator_of, render_index, rng_of, scene_of, vae_input
from benchmarks.tabletop.fit import fit, one_cycle
from benchmarks.tabletop.scenes import SIDE, Style

STEPS = 1_500
PEAK_RATE = 3e-3
PICTURES = 3_000
STYLES: tuple[Style, ...] = ("realistic", "coarse", "realistic", "coarse", "realistic", "papercut")  # in turns
CLOSE_UP = 64  # pixels
CLOSE_UPS, WHOLES = 24, 8  # a batch of each
WHOLE_EVERY = 4  # steps
CHROMA_WEIGHT, TEXTURE_WEIGHT, KL_WEIGHT = 2.0, 4.0, 1e-3
ANCHOR_WEIGHT, ANCHOR_LATER, ANCHOR_STEPS = 1.0, 0.1, 600
ANCHOR_SCALE = 3.0  # of mean opponent colours, to be latents of about unit deviation
OPPONENT = torch.tensor([[0.5, -0.5, 0.0], [-0.25, -0.25, 0.5]])  # red - green, blue - yellow


def train_vae(work: Path, steps: int = STEPS) -> AutoencoderKL:
    """A VAE whose latents have zero mean and unit deviation in every channel; also saved in `work/vae`."""
    vae, pixels = models.make_vae(), pictures(work)
    fit("vae", vae, lambda step: vae_loss(vae, batch_of(pixels, step), step), steps, one_cycle(PEAK_RATE, steps), work)
    standardise(vae, vae_input(torch.tensor(pixels[:300])))
    vae.save_pretrained(work / "vae")
    return vae.eval()


def pictures(work: Path) -> NDArray[np.uint8]:
    """(3000, 128, 128, 3): scenes that the UNets do not see, the styles in turns; mapped from a file of `work`."""
    path = work / "vae-pictures.npy"
    if not path.exists():
        work.mkdir(parents=True, exist_ok=True)
        indices = range(SCENES, SCENES + PICTURES)
        with ProcessPoolExecutor() as pool:
            np.save(path, np.stack(list(pool.map(render_index, indices, map(style_of, indices), chunksize=100))))
    return np.load(path, mmap_mode="r")


def style_of(index: int) -> Style:
    return STYLES[index % len(STYLES)]


def batch_of(pixels: NDArray[np.uint8], step: int) -> torch.Tensor:
    """(24, 3, 64, 64) close-ups, or (8, 3, 128, 128) whole pictures, in -1..1."""
    rng = rng_of("vae", step)
    if step % WHOLE_EVERY == 0:
        return vae_input(torch.from_numpy(pixels[rng.choice(len(pixels), WHOLES, replace=False)]))
    rows = rng.integers(len(pixels), size=CLOSE_UPS)
    return vae_input(torch.from_numpy(np.stack([close_up(pixels[row], row, rng) for row in rows])))


def close_up(picture: NDArray[np.uint8], row: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(64, 64, 3) around one of the objects, which may be cut off."""
    things = scene_of(SCENES + row).things
    x0, y0, x1, y1 = things[rng.integers(len(things))].box
    middle = SIDE * np.array([(y0 + y1) / 2, (x0 + x1) / 2]) + rng.integers(-16, 17, size=2)
    top, left = np.clip(middle - CLOSE_UP / 2, 0, SIDE - CLOSE_UP).astype(int)
    return picture[top : top + CLOSE_UP, left : left + CLOSE_UP]


def vae_loss(vae: AutoencoderKL, x: torch.Tensor, step: int) -> torch.Tensor:
    """What is lost of pictures x (N, 3, H, W) in -1..1; and how far latents are from normal, and from their anchors."""
    with torch.autocast("cpu", torch.bfloat16):
        posterior = vae.encode(x).latent_dist
        z = posterior.sample(generator_of("vae", step))
        y = vae.decode(z).sample.float()
    normal = KL_WEIGHT * posterior.kl().float().mean() / z[0].numel()
    anchor = ANCHOR_WEIGHT if step < ANCHOR_STEPS else ANCHOR_LATER
    return picture_loss(y, x) + normal + anchor * anchor_loss(posterior.mean.float(), x)


def picture_loss(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Differences of pixels, edges, opponent colours and texture between pictures (N, 3, H, W)."""
    edges = sum(F.l1_loss(y.diff(dim=dim), x.diff(dim=dim)) for dim in (2, 3))
    chroma = CHROMA_WEIGHT * F.l1_loss(opponent(y), opponent(x))
    texture = TEXTURE_WEIGHT * F.l1_loss(grain(y), grain(x))
    return F.l1_loss(y, x) + F.mse_loss(y, x) + 0.5 * edges + chroma + texture


def anchor_loss(latents: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """How far the first two of (N, 4, H/8, W/8) latents are from the mean opponent colours of their 8x8 pixels.

    That spreads the eight hues around a circle in latents, from the first steps on, for the decoder and for the UNets.
    """
    means = F.avg_pool2d(opponent(x), x.shape[-1] // latents.shape[-1])
    return F.mse_loss(latents[:, :2], ANCHOR_SCALE * means)


def opponent(x: torch.Tensor) -> torch.Tensor:
    """RGB (N, 3, H, W) -> red minus green, and blue minus yellow (N, 2, H, W)."""
    return torch.einsum("kc,nchw->nkhw", OPPONENT, x)


def grain(x: torch.Tensor) -> torch.Tensor:
    """(N, 3, H, W) -> (N, 1, H/8, W/8): deviation of brightness from its 3x3 mean."""
    gray = x.mean(1, keepdim=True)
    fine = gray - F.avg_pool2d(gray, 3, stride=1, padding=1, count_include_pad=False)
    return (F.avg_pool2d(fine**2, 8) + 1e-6).sqrt()


@torch.no_grad()
def standardise(vae: AutoencoderKL, x: torch.Tensor) -> None:
    """Rescale latent channels to zero mean and unit deviation over pictures x, and undo it before the decoder.

    Both fit into the 1x1 convolutions around the latents, so that `scaling_factor` is 1 and pictures stay the same.
    """
    latents = torch.cat([vae.encode(chunk).latent_dist.mean for chunk in x.split(50)])
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    after, before = vae.post_quant_conv, vae.quant_conv
    after.bias += after.weight[..., 0, 0] @ mean
    after.weight *= deviation[:, None, None]
    before.weight[:4] /= deviation[:, None, None, None]
    before.bias -= torch.cat([mean, 2 * deviation.log()])
    before.bias[:4] /= deviation
    vae.register_to_config(scaling_factor=1.0)


def main(
    work: Annotated[Path, typer.Option(help="Checkpoints and pictures; delete it to start afresh.")],
    steps: Annotated[int, typer.Option(min=1)] = STEPS,
) -> None:
    """Train the VAE and save it in `WORK/vae`. Stop it with Ctrl-C at any time: the same command resumes."""
    torch.manual_seed(SEED)
    train_vae(work, steps)


if __name__ == "__main__":
    typer.run(main)
