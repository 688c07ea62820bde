"""The Tabletop training set: scenes encoded by the VAE, and batches of them, all drawn from a fixed seed."""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from benchmarks.tabletop import models
from benchmarks.tabletop.scenes import Scene, Style, render, sample_scene

SEED = 20240218
SCENES = 24_000
CHUNK = 1_000  # scenes rendered and encoded at a time
BATCH = 32
EMPTY_CAPTION = 0.1  # of samples: classifier-free guidance needs the unconditional prediction

Batch = dict[str, torch.Tensor]


def encode_scenes(vae: AutoencoderKL, style: Style, work: Path) -> Batch:
    """Scenes as the UNets are trained on, kept in `work`.

    Latents (N, 4, 16, 16), token ids (N, 16), owners (N, 16, 3) bool: of which objects a token speaks; boxes
    (N, 3, 4) and phrase ids (N, 3, 16), 0 where there is no object.
    """
    path = work / f"{style}.safetensors"
    if not path.exists():
        latents = torch.cat([_encode_chunk(vae, style, work, start) for start in range(0, SCENES, CHUNK)])
        save_file({"latents": latents, **describe([scene_of(i) for i in range(SCENES)])}, path)
    return load_file(path)


def _encode_chunk(vae: AutoencoderKL, style: Style, work: Path, start: int) -> torch.Tensor:
    """(N, 4, 16, 16) latents of at most 1,000 scenes from `start` on, kept in a file: encoding takes minutes."""
    path = work / f"{style}-{start:05}.safetensors"
    if not path.exists():
        pixels, generator = (
            torch.from_numpy(render_many(style, min(CHUNK, SCENES - start), start)),
            generator_of("encode", start),
        )
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            chunks = (vae.encode(vae_input(chunk)).latent_dist for chunk in pixels.split(50))
            latents = torch.cat([posterior.sample(generator).float() for posterior in chunks])
        save_file({"latents": latents.contiguous() * vae.config.scaling_factor}, path)
    return load_file(path)["latents"]


def describe(scenes: Sequence[Scene]) -> Batch:
    """What `encode_scenes` gives but for latents."""
    tokenizer, count = models.make_tokenizer(), len(scenes)
    boxes, phrases = torch.zeros(count, 3, 4), torch.zeros(count, 3, models.CONTEXT, dtype=torch.long)
    for i, scene in enumerate(scenes):
        for j, thing in enumerate(scene.things):
            boxes[i, j] = torch.tensor(thing.box)
            phrases[i, j] = torch.tensor(tokenizer.encode(thing.phrase).ids)
    ids = torch.tensor([e.ids for e in tokenizer.encode_batch([scene.caption for scene in scenes])])
    return {"ids": ids, "owners": torch.stack([owners_of(s) for s in scenes]), "boxes": boxes, "phrases": phrases}


def owners_of(scene: Scene) -> torch.Tensor:
    """(16, 3) bool: a colour and a kind speak of every object that has both; BOS comes before the caption's words."""
    words, owners = scene.caption.split(), torch.zeros(models.CONTEXT, 3, dtype=torch.bool)
    looks = [(color, kind.removesuffix("s")) for color, kind in pairwise(words)]
    for j, thing in enumerate(scene.things):
        first = 1 + looks.index((thing.color, thing.kind))
        owners[first : first + 2, j] = True
    return owners


def vae_input(pixels: torch.Tensor) -> torch.Tensor:
    """(N, 128, 128, 3) uint8 -> (N, 3, 128, 128) float32 in -1..1."""
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


def scene_of(index: int) -> Scene:
    return sample_scene(np.random.default_rng((SEED, index)))


def render_index(index: int, style: Style) -> np.ndarray:
    """(128, 128, 3) uint8."""
    image = render(scene_of(index), style, np.random.default_rng((SEED, index, 1)))
    return (image * 255).round().astype(np.uint8)


def render_many(style: Style, count: int, offset: int = 0) -> np.ndarray:
    """(count, 128, 128, 3) uint8."""
    with ProcessPoolExecutor() as pool:
        indices = range(offset, offset + count)
        return np.stack(list(pool.map(render_index, indices, [style] * count, chunksize=100)))


def rng_of(name: str, step: int) -> np.random.Generator:
    return np.random.default_rng((SEED, *name.encode(), step))


def generator_of(name: str, step: int) -> torch.Generator:
    return torch.Generator().manual_seed(int(rng_of(name, step).integers(2**62)))


def draw(data: Batch, name: str, step: int) -> tuple[Batch, np.random.Generator]:
    rng = rng_of(name, step)
    rows = torch.from_numpy(rng.integers(len(data["ids"]), size=BATCH))
    return {key: value[rows] for key, value in data.items()}, rng


def drop_captions(ids: torch.Tensor, which: np.ndarray) -> torch.Tensor:
    """Token ids with the captions of some rows made empty: BOS, then EOS to the end."""
    empty = torch.full_like(ids, int(ids.max()))
    empty[:, 0] = ids[:, 0]
    return torch.where(torch.from_numpy(which)[:, None], empty, ids)
