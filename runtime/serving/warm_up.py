"""The first pictures of a server: they load what engines load late, and show whether batches keep an image's bits."""

from typing import Any

import numpy as np
import torch

from runtime import Layout, RealCompo, Region
from runtime.layouts.finished import FINISHED
from runtime.sampling import SAMPLERS, unable

STEPS, SEEDS = 2, (0, 1)


def warm_up(pipe: RealCompo) -> bool:
    """Draw two pictures alone and together; whether both ways gave the same bits.

    Raises:
        RealCompoError: the engines do not run.
    """
    refused = unable(pipe.manifest.scheduler)
    sampler = next(name for name in SAMPLERS if name not in refused)
    gradients = pipe.gradients if pipe.modes else (pipe.default_gradient,)
    same = [_compare(pipe, sampler, gradient) for gradient in gradients]  # all of them, whatever the first gave
    return all(same)


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
    """Something for every kind of control image."""
    region = Region("warm", box=(0.25, 0.25, 0.75, 0.75), tokens=[1])
    blank = {kind: np.zeros((8, 8, 4 if row.holes else 3), dtype=np.uint8) for kind, row in FINISHED.items()}
    return Layout([region], control=blank)
