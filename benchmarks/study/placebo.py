"""Gradients that look like the exact one and know nothing of the picture: what the exact one does, these must not."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from runtime.denoising.evaluation import Change

SEED = 5


def another_image(gradient: Tensor) -> Tensor:
    """Each image's (B,2,h,w) from the image before it in the batch, which shows other objects in other places."""
    return gradient.roll(1, dims=0)


def shuffled(gradient: Tensor) -> Tensor:
    """The pixels' in another order, the same at every step, so that it adds up over the steps as the exact one does."""
    pixels = gradient.shape[2] * gradient.shape[3]
    order = torch.randperm(pixels, generator=torch.Generator().manual_seed(SEED)).to(gradient.device)
    return gradient.flatten(2)[:, :, order].reshape(gradient.shape)


def negative(gradient: Tensor) -> Tensor:
    """Up the loss instead of down."""
    return -gradient


def _of_the_gradient(change: Callable[[Tensor], Tensor]) -> Change:
    return lambda gradient, _attention, _regions: change(gradient)


Changes = Mapping[str, Callable[[], Change]]  # each run has one of its own, which may remember
PLACEBOS = {"another image's": another_image, "shuffled": shuffled, "its negative": negative}
CHANGES: Changes = {name: partial(_of_the_gradient, change) for name, change in PLACEBOS.items()}
