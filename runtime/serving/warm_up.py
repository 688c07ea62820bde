"""The first pictures of a server: they load what engines load late, and show whether batches keep an image's bits."""

from typing import Any

import numpy as np
import torch

from runtime import Layout, RealCompo, RealCompoError, Region
from runtime.sampling import SAMPLERS, unable

STEPS, SEEDS = 2, (0, 1)


def warm_up(pipe: RealCompo) -> bool:
    """Draw two pictures alone and together; whether both ways gave the same bits.

    Raises:
        RealCompoError: the engines do not run.
    """
    refused = unable(pipe.manifest.scheduler)
    sampler = next(name for name in SAMPLERS if name not in refused)
    same = [_warm(pipe, sampler, mode) for mode in pipe.modes or ("exact",)]  # all of them, whatever the first gave
    return all(same)


def _warm(pipe: RealCompo, sampler: str, mode: str) -> bool:
    try:
        return _compare(pipe, sampler, "fixed:0.5" if mode == "fixed" else mode)
    except RealCompoError:  # a bundle whose ControlNets want more than this layout has
        if pipe.modes and "text_to_image" not in pipe.modes:
            raise
        return _compare(pipe, sampler, "text_to_image")


def _compare(pipe: RealCompo, sampler: str, gradient: str) -> bool:
    told: dict[str, Any] = {
        "sampler": sampler,
        "steps": STEPS,
        "switch_step": 1,
        "gradient": gradient,
        "layout": _layout(),
    }
    alone = [pipe("", seed=seed, **told).latents for seed in SEEDS]
    if pipe.most_images is not None and pipe.most_images < len(SEEDS):
        return True  # no run of this server's has another picture in it
    together = pipe([""] * len(SEEDS), seeds=SEEDS, **told).latents
    return torch.equal(together, torch.cat(alone))


def _layout() -> Layout:
    """Something for every kind of control image but poses."""
    blank = np.zeros((8, 8), dtype=np.uint8)
    region = Region("warm", box=(0.25, 0.25, 0.75, 0.75), tokens=[1], label=1)
    return Layout([region], segmentation=blank, depth=blank)
