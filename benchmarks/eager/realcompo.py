"""RealCompo in eager PyTorch.

It is written from the paper (arXiv 2402.12908) on plain diffusers modules and schedulers, with autograd through whole
UNets. It shares no code with the runtime's denoising or the exporter's graphs, so that it can say whether they are
right as well as how fast they are. In a pair, text-to-image comes first and spatial second.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import T2IAdapter
from diffusers.image_processor import VaeImageProcessor
from diffusers.models.controlnets import MultiControlNetModel
from PIL.Image import Image
from torch import Tensor

from benchmarks.eager.conditions import Regions, Rows, cat_rows, draw_controls, find_regions, place_objects
from benchmarks.eager.loading import Parts, caster, load_parts
from benchmarks.eager.maps import find_map_layers, recording
from benchmarks.eager.method import attention_loss, ddim_step, fuse, seeded_coefficients
from benchmarks.eager.settings import DEFAULTS, Form, Settings, make_scheduler
from export.pairs import Control
from runtime.layouts.layout import Layout
from runtime.words import MODELS, Model

PAPER_AREA = 64 * 64  # pixels of the paper's latents, to which its scale belongs; others' gradients are per that area
LOSS_SCALE = 2.0**10  # lifts fp16 gradients above underflow; a power of two changes nothing in the other types


class Prediction(NamedTuple):
    """One model's output (B,4,h,w), of the type that its checkpoint predicts."""

    conditional: Tensor
    guided: Tensor


@dataclass(frozen=True)
class Run:
    """What does not change between evaluations."""

    settings: Settings
    scheduler: Any
    conditional: Rows  # of B rows
    told: Rows  # the conditional ones; if guided, B unconditional ones before them
    regions: Regions
    pixels: int  # of the latents

    def rate(self, i: int) -> float:
        """rho_i of evaluation i."""
        counts = [self.settings.count(i) for i in range(len(self.scheduler.timesteps))]
        decay = torch.linspace(1, 0.5, counts[-1] + 1, dtype=torch.float64).sqrt()
        return self.settings.coefficient_scale * decay[counts[i]].item() * self.pixels / PAPER_AREA


class Evaluation(NamedTuple):
    """What happened at one timestep."""

    timestep: int
    latents: Tensor  # (B,4,h,w), before
    coefficients_before: Tensor  # (B,2,h,w)
    coefficients: Tensor  # (B,2,h,w), after: those that fused
    gradient: Tensor | None  # (B,2,h,w); None where the coefficients were not moved, as is the loss
    loss: Tensor | None  # (B,)


class Result(NamedTuple):
    latents: Tensor  # (B,4,h,w)
    coefficients: Tensor  # (B,2,h,w)
    evaluations: list[Evaluation]


class EagerRealCompo:
    """Two UNets, balanced as in the paper. Latents and coefficients are of the models' dtype, float32 at the least."""

    def __init__(self, parts: Parts) -> None:
        self.unets = parts.unets
        self.attached = parts.attached
        self.vae = parts.vae
        self.texts = parts.texts
        self.latent_size = parts.latent_size
        self.device: torch.device = parts.texts.encoder.device
        self.dtype: torch.dtype = parts.texts.encoder.dtype
        self.state_dtype = torch.promote_types(self.dtype, torch.float32)
        self._scheduler_config = parts.scheduler_config
        self.map_size, self.map_layers = find_map_layers(self.unets["text_to_image"], self.latent_size)
        if find_map_layers(self.unets["spatial"], self.latent_size) != (self.map_size, self.map_layers):
            raise ValueError("the two UNets differ in their cross-attention layers")

    @classmethod
    def load(
        cls,
        text_to_image: Path | str,
        spatial: Path | str,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        controls: Sequence[Control] = (),
        latent_size: tuple[int, int] | None = None,
    ) -> "EagerRealCompo":
        """From two diffusers folders: a pipeline, and a `unet` with gated grounding; or the pipeline twice, and those
        of ControlNets or of T2I-Adapters. Latents are of `latent_size` (h,w), by default that of the UNet's training.

        Raises:
            RealCompoError: a folder that lacks a part or has one of another architecture.
        """
        return cls(load_parts(text_to_image, spatial, caster(dtype, device), controls, latent_size))

    @torch.no_grad()
    def __call__(
        self,
        prompts: Sequence[str],
        layouts: Sequence[Layout],
        latents: Tensor,
        coefficients: Tensor | None = None,
        settings: Settings = DEFAULTS,
        negative_prompts: Sequence[str] | None = None,
    ) -> Result:
        """Denoise latents (B,4,h,w), fused by coefficients (B,2,h,w), one prompt and layout for each image.

        Raises:
            ValueError: no coefficients, and a form that has no seed of its own for them.
        """
        run = self.prepare(prompts, layouts, settings, negative_prompts)
        if coefficients is None:
            coefficients = self._draw_coefficients(settings.form.coefficient_seed, len(prompts))
        latents, coefficients = (start.to(self.device, self.state_dtype) for start in (latents, coefficients))
        evaluations = []
        for i, timestep in enumerate(run.scheduler.timesteps.tolist()):
            output, evaluation = self._evaluate(run, i, timestep, latents, coefficients)
            evaluations.append(evaluation)
            coefficients = evaluation.coefficients
            latents = run.scheduler.step(output, timestep, latents).prev_sample
        return Result(latents, coefficients, evaluations)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> list[Image]:
        """Images of latents (B,4,h,w)."""
        decoded = self.vae.decode((latents / self.vae.config.scaling_factor).to(self.dtype)).sample
        images: list[Image] = VaeImageProcessor().postprocess(decoded.float(), output_type="pil")
        return images

    @torch.no_grad()
    def prepare(
        self,
        prompts: Sequence[str],
        layouts: Sequence[Layout],
        settings: Settings,
        negative_prompts: Sequence[str] | None = None,
    ) -> Run:
        """Everything that stays the same over the evaluations; negative prompts are empty ones by default."""
        scheduler = make_scheduler(settings.sampler, self._scheduler_config)
        scheduler.set_timesteps(settings.steps)
        conditional = told = Rows(
            *self.texts.encode(prompts), *place_objects(self.texts, layouts), self._draw_controls(layouts)
        )
        if settings.guided:
            told = cat_rows(self._unconditional(conditional, negative_prompts or [""] * len(prompts)), conditional)
        regions = self._find_regions(prompts, layouts, settings.form)
        return Run(settings, scheduler, conditional, told, regions, math.prod(self.latent_size))

    def trial_loss(
        self, run: Run, outputs: Sequence[Tensor], latents: Tensor, coefficients: Tensor, timestep: int
    ) -> Tensor:
        """The attention loss (B,) after a trial step that fuses both models' outputs (B,4,h,w): steps 2 to 4."""
        trial = ddim_step(run.scheduler, fuse(outputs, coefficients), timestep, latents)
        models = run.settings.form.gradient_from
        if run.settings.form.repeats_forwards:
            for model in set(MODELS).difference(models):
                self._see(run, model, trial.detach(), timestep)
        losses = [attention_loss(self._see(run, model, trial, timestep), run.regions) for model in models]
        return torch.stack(losses).sum(0)

    @torch.no_grad()
    def gradient_at(self, run: Run, latents: Tensor, coefficients: Tensor, timestep: int) -> Tensor:
        """The gradient (B,2,h,w) that would move the coefficients of a state."""
        outputs = self._outputs_to_try(run, None, latents, timestep)
        return self._differentiate(run, outputs, latents, coefficients, timestep)[0]

    def _evaluate(
        self, run: Run, i: int, timestep: int, latents: Tensor, coefficients: Tensor
    ) -> tuple[Tensor, Evaluation]:
        """The model output (B,4,h,w) to step with, and what led to it."""
        settings, after, gradient, loss = run.settings, coefficients, None, None
        models, repeats = settings.predicted(i), settings.form.repeats_forwards
        predictions = None if repeats else self._predict_all(run, models, latents, timestep)
        if settings.updates(i):
            outputs = self._outputs_to_try(run, predictions, latents, timestep)
            gradient, loss = self._differentiate(run, outputs, latents, coefficients, timestep)
            after = coefficients - run.rate(i) * gradient
        guided = [each.guided for each in predictions or self._predict_all(run, models, latents, timestep)]
        output = guided[-1] if settings.alone(i) else fuse(guided, after)
        return output, Evaluation(timestep, latents, coefficients, after, gradient, loss)

    def _outputs_to_try(
        self, run: Run, predictions: Sequence[Prediction] | None, latents: Tensor, timestep: int
    ) -> list[Tensor]:
        """Both models' outputs (B,4,h,w) for the trial step, predicted here if they are not known."""
        if run.settings.form.trial_guidance:
            return [each.guided for each in predictions or self._predict_all(run, MODELS, latents, timestep)]
        if predictions:
            return [each.conditional for each in predictions]
        return [self._run_unet(run, model, latents, timestep, run.conditional) for model in MODELS]

    def _differentiate(
        self, run: Run, outputs: Sequence[Tensor], latents: Tensor, coefficients: Tensor, timestep: int
    ) -> tuple[Tensor, Tensor]:
        """The gradient (B,2,h,w) of each image's loss with respect to its coefficients, and the losses (B,)."""
        with torch.enable_grad():
            leaf = coefficients.detach().requires_grad_()
            loss = self.trial_loss(run, outputs, latents, leaf, timestep)
            (gradient,) = torch.autograd.grad(LOSS_SCALE * loss.sum(), leaf)
        return gradient / LOSS_SCALE, loss.detach()

    def _predict_all(self, run: Run, models: Sequence[Model], latents: Tensor, timestep: int) -> list[Prediction]:
        return [self._predict(run, model, latents, timestep) for model in models]

    def _predict(self, run: Run, model: Model, latents: Tensor, timestep: int) -> Prediction:
        """Classifier-free guidance (arXiv 2207.12598), all rows in one call."""
        if not run.settings.guided:
            conditional = self._run_unet(run, model, latents, timestep, run.told)
            return Prediction(conditional, conditional)
        unconditional, conditional = self._run_unet(run, model, torch.cat([latents] * 2), timestep, run.told).chunk(2)
        return Prediction(conditional, unconditional + run.settings.guidance_scale * (conditional - unconditional))

    def layer_maps(self, run: Run, model: Model, latents: Tensor, timestep: int) -> dict[str, Tensor]:
        """A model's attention maps (B,P,L) of each map layer, averaged over heads, of the conditional rows."""
        with recording(self.unets[model], self.map_layers) as maps:
            self._run_unet(run, model, latents, timestep, run.conditional)
        return {layer: maps[layer] for layer in self.map_layers}

    def _see(self, run: Run, model: Model, latents: Tensor, timestep: int) -> Tensor:
        """A model's attention maps (B,P,L), averaged over heads and layers, of the conditional rows."""
        return torch.stack(list(self.layer_maps(run, model, latents, timestep).values())).mean(0)

    def _run_unet(self, run: Run, model: Model, latents: Tensor, timestep: int, rows: Rows) -> Tensor:
        """(N,4,h,w) -> (N,4,h,w)."""
        latents = latents.to(self.dtype)
        output = self.unets[model](
            latents,
            timestep,
            encoder_hidden_states=rows.encoder_hidden_states,
            added_cond_kwargs=rows.added,
            **(self._placed(run, latents, timestep, rows) if model == "spatial" else {}),
        )
        return output.sample.to(self.state_dtype)

    def _placed(self, run: Run, latents: Tensor, timestep: int, rows: Rows) -> dict[str, Any]:
        """What makes the spatial UNet follow the layouts."""
        if not self.attached:
            grounding = {"boxes": rows.boxes, "positive_embeddings": rows.phrase_embeddings, "masks": rows.masks}
            return {"cross_attention_kwargs": {"gligen": grounding}}
        models, images = list(self.attached.values()), list(rows.control_images.split(3, dim=1))
        scales = [run.settings.control_scale] * len(models)
        if isinstance(models[0], T2IAdapter):
            return {"down_intrablock_additional_residuals": _adapted(models, images, scales)}
        down, mid = MultiControlNetModel(models)(
            latents,
            timestep,
            rows.encoder_hidden_states,
            images,
            scales,
            added_cond_kwargs=rows.added,
            return_dict=False,
        )
        return {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}

    def _unconditional(self, conditional: Rows, negative_prompts: Sequence[str]) -> Rows:
        """The same with other texts, and with every slot masked."""
        text, added = self.texts.encode_negatives(negative_prompts)
        return conditional._replace(encoder_hidden_states=text, added=added, masks=torch.zeros_like(conditional.masks))

    def _draw_controls(self, layouts: Sequence[Layout]) -> Tensor:
        return draw_controls(layouts, self.attached, self.texts.image_size).to(self.device, self.dtype)

    def _draw_coefficients(self, seed: int | None, count: int) -> Tensor:
        if seed is None:
            raise ValueError("give coefficients (B,2,h,w): only a form with a coefficient_seed draws its own")
        return seeded_coefficients(seed, self.latent_size).expand(count, -1, -1, -1)

    def _find_regions(self, prompts: Sequence[str], layouts: Sequence[Layout], form: Form) -> Regions:
        found = find_regions(self.texts, prompts, layouts, self.map_size, form)
        return Regions(*(part.to(self.device, self.state_dtype) for part in found))


def _adapted(adapters: Sequence[Any], images: Sequence[Tensor], scales: Sequence[float]) -> list[Tensor]:
    """What T2I-Adapters see, a tensor for each size, scaled and added up."""
    each = (
        [scale * feature for feature in adapter(image[:, : adapter.config.in_channels])]
        for adapter, image, scale in zip(adapters, images, scales, strict=True)
    )
    return [torch.stack(features).sum(0) for features in zip(*each, strict=True)]
