"""The two models at work: engines with what they are told in one run, unconditional and conditional rows together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from runtime.backends.base import Runner
from runtime.balancer import Regions
from runtime.bundle import Role
from runtime.options import Model, Options
from runtime.output import Stats

GRADIENT_ROLES: dict[Model, Role] = {"text_to_image": "text_to_image_gradient", "spatial": "spatial_gradient"}


class Prediction(NamedTuple):
    """What one model says of B images."""

    noise: Tensor  # (B,4,h,w), guidance included
    conditional: Tensor  # (B,4,h,w), of the conditional rows alone; as the maps, maybe in the engine's own buffer
    maps: Tensor  # (B,P,L), of the conditional rows; the engine's buffer, valid until its next call


@dataclass(frozen=True)
class Conditions:
    """What the models are told. If guided, the unconditional rows of B images come before the conditional ones."""

    encoder_hidden_states: Tensor  # (B or 2B,L,D)
    object_tokens: Tensor | None  # (B or 2B,N,D); None where the spatial model does not run
    regions: Regions  # of B images, as many as gradient engines take


@dataclass(frozen=True)
class Models:
    runners: Mapping[Role, Runner]
    conditions: Conditions
    options: Options
    stats: Stats

    def predict(self, latents: Tensor, timestep: int, i: int) -> dict[Model, Prediction]:
        """What each model of row i says of latents (B,4,h,w), in one call a model."""
        rows = torch.cat([latents, latents]) if self.options.guided else latents
        return {
            model: _guide(self._run(model, model, rows, timestep, i), self.options) for model in self.options.models(i)
        }

    def loss_gradient(self, latents: Tensor, timestep: int, i: int) -> Tensor:
        """The gradient (B,4,h,w) of the chosen models' attention losses, added up, with respect to the latents."""
        masks, tokens, weights = self.conditions.regions
        regions = {"region_masks": masks, "region_tokens": tokens, "region_weights": weights}
        total = torch.zeros_like(latents)
        for model in self.options.gradient_from:
            total += self._run(GRADIENT_ROLES[model], model, latents, timestep, i, **regions)["grad_latents"]
        return total

    def _run(
        self, role: Role, model: Model, latents: Tensor, timestep: int, i: int, **regions: Tensor
    ) -> dict[str, Tensor]:
        """Call one of a model's engines on all rows, or, with B latents, on the conditional ones."""
        count, conditions = len(latents), self.conditions
        inputs = {
            "latents": latents,
            "timestep": torch.full((count,), timestep, dtype=torch.int64, device=latents.device),
            "encoder_hidden_states": conditions.encoder_hidden_states[-count:],
            **regions,
        }
        if model == "spatial" and conditions.object_tokens is not None:
            inputs["object_tokens"] = conditions.object_tokens[-count:]
            inputs["grounding_scale"] = torch.full((count,), self.options.grounding_scale(i), device=latents.device)
        return self.stats.run(self.runners[role], **inputs)


def _guide(outputs: Mapping[str, Tensor], options: Options) -> Prediction:
    """Classifier-free guidance (arXiv 2207.12598); the noise is no buffer, for samplers keep it past the next call."""
    noise, maps = outputs["noise_pred"], outputs["attention_maps"]
    if not options.guided:
        noise = noise.clone()
        return Prediction(noise, noise, maps)
    unconditional, conditional = noise.chunk(2)
    guided = unconditional + options.guidance_scale * (conditional - unconditional)
    return Prediction(guided, conditional, maps.chunk(2)[1])
