"""The two models at work: engines with what they are told in one run, unconditional and conditional rows together."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from runtime.backends.base import Runner
from runtime.balancer import Regions
from runtime.bundle import Role
from runtime.options import Kind, Model
from runtime.output import Stats
from runtime.rows import Row
from runtime.streams import Streams

GRADIENT_ROLES: dict[Model, Role] = {"text_to_image": "text_to_image_gradient", "spatial": "spatial_gradient"}


class Prediction(NamedTuple):
    """What one model says of B images, maybe in the engine's own buffers, which are valid until its next call."""

    noise: Tensor  # (B,4,h,w), guidance included
    conditional: Tensor  # (B,4,h,w), of the conditional rows alone
    maps: Tensor  # (B,P,L), of the conditional rows


@dataclass(frozen=True)
class Conditions:
    """What the models are told. If guided, the unconditional rows of B images come before the conditional ones."""

    encoder_hidden_states: Tensor  # (B or 2B,L,D)
    object_tokens: Tensor | None  # (B or 2B,N,D); None where the spatial model does not run
    regions: Regions  # of B images, as many as gradient engines take

    def tensors(self) -> list[Tensor]:
        objects = [] if self.object_tokens is None else [self.object_tokens]
        return [self.encoder_hidden_states, *objects, *self.regions]


@dataclass(frozen=True)
class Models:
    runners: Mapping[Role, Runner]
    conditions: Conditions
    streams: Streams
    stats: Stats = field(default_factory=Stats)

    def predict(self, latents: Tensor, row: Row, kind: Kind) -> dict[Model, Prediction]:
        """What each model of the row says of latents (B,4,h,w), in one call a model."""
        rows = torch.cat([latents, latents]) if kind.guided else latents
        calls = [partial(self._predict, model, rows, row, kind.guided) for model in kind.models]
        return dict(zip(kind.models, self.streams.side_by_side(calls), strict=True))

    def loss_gradient(self, latents: Tensor, row: Row, kind: Kind) -> Tensor:
        """The gradient (B,4,h,w) of the chosen models' attention losses, added up, with respect to the latents."""
        masks, tokens, weights = self.conditions.regions
        regions = {"region_masks": masks, "region_tokens": tokens, "region_weights": weights}
        calls = [
            partial(self._run, GRADIENT_ROLES[model], model, latents, row, **regions) for model in kind.gradient_from
        ]
        gradients = [outputs["grad_latents"] for outputs in self.streams.side_by_side(calls)]
        return torch.stack(gradients).sum(0)

    def _predict(self, model: Model, rows: Tensor, row: Row, guided: bool) -> Prediction:
        outputs = self._run(model, model, rows, row)
        noise, maps = outputs["noise_pred"], outputs["attention_maps"]
        return _guide(noise, maps, row.guidance_scale) if guided else Prediction(noise, noise, maps)

    def _run(self, role: Role, model: Model, latents: Tensor, row: Row, **regions: Tensor) -> dict[str, Tensor]:
        """Call one of a model's engines on all rows, or, with B latents, on the conditional ones."""
        count, conditions = len(latents), self.conditions
        inputs = {
            "latents": latents,
            "timestep": row.timestep.expand(count),
            "encoder_hidden_states": conditions.encoder_hidden_states[-count:],
            **regions,
        }
        if model == "spatial" and conditions.object_tokens is not None:
            inputs["object_tokens"] = conditions.object_tokens[-count:]
            inputs["grounding_scale"] = row.grounding_scale.expand(count)
        return self.stats.run(self.runners[role], **inputs)


def _guide(noise: Tensor, maps: Tensor, guidance_scale: Tensor) -> Prediction:
    """Classifier-free guidance (arXiv 2207.12598)."""
    unconditional, conditional = noise.chunk(2)
    guided = unconditional + guidance_scale * (conditional - unconditional)
    return Prediction(guided, conditional, maps.chunk(2)[1])
