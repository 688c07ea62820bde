"""One evaluation, a step of the sampler's table: predict, balance, fuse, step.

It reads and writes tensors that stay where they are and takes no number of its own from Python, so that the same
function runs as it is on a CPU and as one CUDA graph on a GPU.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from runtime.denoising.balancer import (
    Attention,
    Regions,
    attention_loss,
    drop_non_finite,
    exact_gradient,
    fuse,
    mixed_attention,
    surrogate_gradient,
)
from runtime.denoising.models import Models, Prediction
from runtime.denoising.numbers import Numbers
from runtime.options import Work
from runtime.sampling.tables import advance, start_history
from runtime.stats import Stats
from runtime.words import MODELS, Model

# What replaces the coefficients' gradient (B,2,h,w), told what the balancer sees before the update and the regions.
Change = Callable[[Tensor, Attention, Regions], Tensor]


@dataclass(frozen=True)
class State:
    """What a run carries from evaluation to evaluation, for B images."""

    history: Tensor  # (KEPT,B,4,h,w), see `sampling.tables.start_history`
    coefficients: Tensor  # (B,2,h,w), text-to-image first
    skipped: Tensor  # () int64: updates left out because their gradient was not finite
    numbers: Numbers  # of the evaluation to come

    @property
    def latents(self) -> Tensor:
        return self.history[0]

    @property
    def fresh(self) -> Tensor:
        """(B,4,h,w): what a step that adds fresh noise adds of it."""
        return self.history[-1]

    def tensors(self) -> list[Tensor]:
        return [self.history, self.coefficients, self.skipped, *self.numbers]

    def keep(self, images: Sequence[int]) -> "State":
        """The state of these of the B images, in memory of its own but for what all share."""
        return replace(self, history=self.history[:, images], coefficients=self.coefficients[images])


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation leaves besides its state. The tensors are valid until the next one."""

    attention: Attention | None  # before the update, if traced
    gradient: Tensor | None  # (B,2,h,w) that the coefficients moved down
    stats: Stats  # the calls it made


def start_state(latents: Tensor, coefficients: Tensor, numbers: Numbers) -> State:
    """The state before the first evaluation, in memory of its own."""
    skipped = torch.zeros((), dtype=torch.int64, device=latents.device)
    return State(start_history(latents), coefficients.clone(), skipped, Numbers(*(part.clone() for part in numbers)))


def evaluate(
    models: Models,
    state: State,
    work: Work,
    map_resolution: tuple[int, int],
    traced: bool,
    change: Change | None = None,
) -> Evaluation:
    """Carry the state over one evaluation."""
    predictions = models.predict(state.latents, state.numbers, work)
    drawing = {model: predictions[model] for model in work.models}
    attention = _attention(models, state, drawing, map_resolution) if traced or change else None
    gradient = coefficient_gradient(models, state, predictions, work, map_resolution)
    if gradient is not None:
        gradient, broken = drop_non_finite(gradient)
        state.skipped.add_(broken)
        if change and attention:
            gradient = change(gradient, attention, models.conditions.regions)
        state.coefficients.sub_(state.numbers.step_size * gradient)
    advance(state.history, _combine(drawing, state.coefficients), state.numbers.weights)
    return Evaluation(attention, gradient, models.stats)


def coefficient_gradient(
    models: Models,
    state: State,
    predictions: Mapping[Model, Prediction],
    work: Work,
    map_resolution: tuple[int, int],
) -> Tensor | None:
    """What the coefficients (B,2,h,w) move down now, if they move."""
    if work.gradient is None:
        return None
    text, spatial = (predictions[model] for model in MODELS)
    if work.gradient == "exact":
        return _exact_gradient(models, state, text, spatial, work)
    return surrogate_gradient(state.coefficients, text.maps, spatial.maps, models.conditions.regions, map_resolution)


def _exact_gradient(models: Models, state: State, text: Prediction, spatial: Prediction, work: Work) -> Tensor:
    """The gradient of the models' attention losses at the latents that a trial step leads to."""
    noise_text, noise_spatial = (
        prediction.noise if work.trial_guidance else prediction.conditional for prediction in (text, spatial)
    )
    kept, added = state.numbers.trial.unbind(1)
    trial = kept * state.latents + added * fuse(noise_text, noise_spatial, state.coefficients)
    cotangent = added * models.loss_gradient(trial, state.numbers, work)
    return exact_gradient(state.coefficients, noise_text, noise_spatial, cotangent)


def _attention(
    models: Models, state: State, predictions: Mapping[Model, Prediction], map_resolution: tuple[int, int]
) -> Attention:
    """What the balancer sees of the models that draw."""
    maps, regions = [prediction.maps for prediction in predictions.values()], models.conditions.regions
    if len(maps) == 1:
        return attention_loss(maps[0], *regions)
    return mixed_attention(state.coefficients, maps[0], maps[1], regions, map_resolution)


def _combine(predictions: Mapping[Model, Prediction], coefficients: Tensor) -> Tensor:
    noises = [prediction.noise for prediction in predictions.values()]
    return noises[0] if len(noises) == 1 else fuse(noises[0], noises[1], coefficients)
