"""The two models at work: engines with what they are told in one run, unconditional and conditional rows together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from runtime.backends.streams import Streams
from runtime.denoising.balancer import Regions
from runtime.denoising.numbers import Numbers
from runtime.options import Work
from runtime.runner import Runner
from runtime.spatial.kind import Call, Condition, Tensors, keep_rows
from runtime.stats import Stats
from runtime.words import Model, Role

PREDICTION_ROLES: dict[Model, Role] = {"text_to_image": "text_to_image", "spatial": "spatial"}
GRADIENT_ROLES: dict[Model, Role] = {"text_to_image": "text_to_image_gradient", "spatial": "spatial_gradient"}

SPATIAL_ROLES: tuple[Role, ...] = ("spatial", "spatial_gradient")


class Prediction(NamedTuple):
    """What one model says of B images, maybe in the engine's own buffers, which are valid until its next call."""

    noise: Tensor  # (B,4,h,w), guidance included
    conditional: Tensor  # (B,4,h,w), of the conditional rows alone
    maps: Tensor  # (B,P,L), of the conditional rows


@dataclass(frozen=True)
class Conditions:
    """What the models are told. If guided, the unconditional rows of B images come before the conditional ones."""

    texts: Tensors  # a row (B or 2B) each of what UNets take: encoder_hidden_states (B or 2B,L,D), SDXL's more
    spatial: Condition
    regions: Regions  # of B images, as many as gradient engines take
    most_regions: int  # of any of the images; the rest is padding

    def tensors(self) -> list[Tensor]:
        return [*self.texts.values(), *self.spatial.tensors(), *self.regions]

    def keep(self, images: Sequence[int]) -> "Conditions":
        """What the models are told of these of the B images."""
        count, regions = len(self.regions.weights), Regions(*(part[images] for part in self.regions))
        texts = {name: keep_rows(tensor, images, count) for name, tensor in self.texts.items()}
        return replace(self, texts=texts, spatial=self.spatial.keep(images, count), regions=regions)


@dataclass(frozen=True)
class Models:
    runners: Mapping[Role, Runner]
    conditions: Conditions
    streams: Streams
    shared_unet: bool = False  # the spatial engines do the text-to-image model's work too, told of no layout
    stats: Stats = field(default_factory=Stats)

    def predict(self, latents: Tensor, numbers: Numbers, work: Work) -> dict[Model, Prediction]:
        """What each model that is asked says of latents (B,4,h,w)."""
        rows = torch.cat([latents, latents]) if work.guided else latents
        outputs = self._run(PREDICTION_ROLES, work.asked, rows, numbers)
        return {model: _prediction(output, numbers, work.guided) for model, output in outputs.items()}

    def loss_gradient(self, latents: Tensor, numbers: Numbers, work: Work) -> Tensor:
        """The gradient (B,4,h,w) of the chosen models' attention losses, added up, with respect to the latents."""
        masks, tokens, weights = self.conditions.regions
        regions = {"region_masks": masks, "region_tokens": tokens, "region_weights": weights}
        outputs = self._run(GRADIENT_ROLES, work.gradient_from, latents, numbers, **regions)
        return torch.stack([output["grad_latents"] for output in outputs.values()]).sum(0)

    def _run(
        self, roles: Mapping[Model, Role], models: Sequence[Model], latents: Tensor, numbers: Numbers, **regions: Tensor
    ) -> dict[Model, Tensors]:
        """Each model's engine on all rows, or, with B latents, the conditional ones: in one call if they share it."""
        if not self.shared_unet:
            calls = [partial(self._call, roles[model], [model], latents, numbers, regions) for model in models]
            return dict(zip(models, self.streams.side_by_side(calls), strict=True))
        together = self._call(roles["spatial"], models, latents, numbers, regions)
        parts = {name: output.chunk(len(models)) for name, output in together.items()}
        return {model: {name: part[k] for name, part in parts.items()} for k, model in enumerate(models)}

    def _call(
        self, role: Role, models: Sequence[Model], latents: Tensor, numbers: Numbers, regions: Mapping[str, Tensor]
    ) -> Tensors:
        """One call of an engine, with the rows of the models one after the other."""
        count, conditions = len(latents), self.conditions
        rows = {
            "latents": latents,
            "timestep": numbers.timestep.expand(count),
            **{name: tensor[-count:] for name, tensor in conditions.texts.items()},
        }
        inputs = {**rows, **regions}
        if len(models) > 1:
            inputs = {name: torch.cat([tensor] * len(models)) for name, tensor in inputs.items()}
        if role in SPATIAL_ROLES:
            inputs |= conditions.spatial.inputs(Call(role, rows, models, numbers.spatial_scales), self._engine)
        return self._engine(role, **inputs)

    def _engine(self, role: Role, **tensors: Tensor) -> Tensors:
        return self.stats.run(self.runners[role], **tensors)


def _prediction(outputs: Tensors, numbers: Numbers, guided: bool) -> Prediction:
    noise, maps = outputs["noise_pred"], outputs["attention_maps"]
    return _guide(noise, maps, numbers.guidance_scale) if guided else Prediction(noise, noise, maps)


def _guide(noise: Tensor, maps: Tensor, guidance_scale: Tensor) -> Prediction:
    """Classifier-free guidance (arXiv 2207.12598)."""
    unconditional, conditional = noise.chunk(2)
    guided = unconditional + guidance_scale * (conditional - unconditional)
    return Prediction(guided, conditional, maps.chunk(2)[1])
