"""RealCompo (arXiv 2402.12908): one denoising run over two models, balanced per pixel."""

import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from PIL.Image import Image
from torch import Tensor

from runtime.backends import load_runners
from runtime.backends.base import Runner
from runtime.balancer import (
    Attention,
    Regions,
    attention_loss,
    drop_non_finite,
    exact_gradient,
    fuse,
    fusing_weights,
    mixed_attention,
    surrogate_gradient,
    update,
)
from runtime.bundle import Manifest, Role, check_files, how_to_rebuild, read_manifest
from runtime.conditions import Request, make_grounding, make_regions, make_request, pad_regions, place_embeddings
from runtime.errors import RealCompoError
from runtime.layout import Layout
from runtime.models import Conditions, Models, Prediction
from runtime.options import BOTH, Model, Options, check_count
from runtime.output import Output, Stats, TraceStep, to_images
from runtime.sampling import NOISES_KEPT, SAMPLES_KEPT, Step, advance, make_table
from runtime.text import Prompt, PromptEncoder, warn_of_losses

Callback = Callable[[int, int, Tensor, Tensor], None]


@dataclass(frozen=True)
class Run:
    """What does not change from row to row of the table."""

    models: Models
    regions: Regions
    table: tuple[Step, ...]
    options: Options
    stats: Stats


class RealCompo:
    """A loaded bundle, ready to draw. Not for use from several threads at once: engines reuse their buffers."""

    def __init__(
        self, manifest: Manifest, encoder: PromptEncoder, runners: Mapping[Role, Runner], device: torch.device
    ) -> None:
        self.manifest = manifest
        self.device = device
        self._encoder = encoder
        self._runners = runners

    @classmethod
    def load(cls, path: Path | str, backend: str = "auto", device: str = "auto", verify: bool = True) -> "RealCompo":
        """Open the bundle in a folder.

        Args:
            path: the folder that `python -m export build` wrote.
            backend: `auto` or `onnx`.
            device: `auto`, `cpu`, `cuda` or `cuda:N`.
            verify: check every file's hash first; without, a damaged file may go unnoticed.

        Raises:
            RealCompoError: not a bundle, a damaged one, or one that this machine cannot run.
        """
        folder = Path(path)
        manifest = read_manifest(folder)
        if absent := [role for role in get_args(Role) if role not in manifest.engines]:
            raise RealCompoError(f"{folder} has no {', '.join(absent)} engine. {how_to_rebuild(folder, manifest)}")
        if verify:
            check_files(folder, manifest)
        encoder = PromptEncoder(folder / manifest.tokenizer.name, manifest.max_tokens)
        return cls(manifest, encoder, *load_runners(folder, manifest, backend, device))

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        layout: Layout | Sequence[Layout] | None = None,
        negative_prompt: str | Sequence[str] = "",
        steps: int = 50,
        guidance_scale: float = 7.5,
        switch_step: int | None = None,
        seed: int = 0,
        gradient: str = "exact",
        sampler: str = "plms",
        coefficient_scale: float = 1e6,
        gradient_from: Sequence[Model] = BOTH,
        trial_guidance: bool = False,
        update_every: int = 1,
        num_images: int = 1,
        latents: Tensor | None = None,
        coefficients: Tensor | None = None,
        trace: bool = False,
        callback: Callback | None = None,
        grounding_fraction: float = 1.0,
    ) -> Output:
        """Draw B = prompts * num_images images of (H,W) = `manifest.image_size`.

        Args:
            prompt: one, or a list for a batch.
            layout: where the objects belong; one for all images, or a list with one for each prompt or each image.
                Only `gradient="text_to_image"` does without; it shows one to the trace alone.
            negative_prompt: what to steer away from; one, or one for each prompt.
            steps: denoising steps; `plms` evaluates the models once more.
            guidance_scale: of classifier-free guidance; 1 or less leaves the unconditional rows out.
            switch_step: the evaluations before this one use the spatial model alone; None is 0.4 of the steps.
            seed: draws the starting latents of all images at once, as diffusers does, and then the coefficients.
            gradient: what moves the fusing coefficients. `exact`: the loss of both models' attention maps after a trial
                step, as in the paper; `surrogate`: the loss of the mixed maps that the models give anyway; `none`:
                nothing, they stay as drawn; `fixed:W`: instead of coefficients, a constant weight W of the spatial
                model; `text_to_image` or `spatial`: that model alone.
            sampler: `plms`, `ddim` or `dpm++2m`.
            coefficient_scale: of the coefficients' updates.
            gradient_from: the models whose attention losses `exact` adds up; the released layout code has the spatial
                one alone.
            trial_guidance: whether the trial step of `exact` fuses guided predictions, as the released keypoint code
                does, instead of conditional ones.
            update_every: update the coefficients at every k-th evaluation from `switch_step` on.
            num_images: images for each prompt.
            latents: (B,4,h,w) float32 to start from instead of drawn ones.
            coefficients: (B,2,h,w) float32 to start from instead of drawn ones, text-to-image first.
            trace: record what the balancer saw; see `TraceStep`.
            callback: called after each evaluation with its number (from 1), how many there are, the latents and the
                coefficients; what it raises ends the run.
            grounding_fraction: of the evaluations, the first ones, that have GLIGEN's gates on.

        Raises:
            RealCompoError: an argument out of its range, or a layout that does not fit the prompt or the bundle.
        """
        check_count("num_images", num_images)
        table = make_table(sampler, steps, self.manifest.scheduler)
        switch_step = round(0.4 * steps) if switch_step is None else switch_step
        options = Options(
            rows=len(table),
            gradient=gradient,
            guidance_scale=guidance_scale,
            switch_step=switch_step,
            coefficient_scale=coefficient_scale,
            update_every=update_every,
            grounding_fraction=grounding_fraction,
            gradient_from=tuple(gradient_from),
            trial_guidance=trial_guidance,
        )
        if layout is None and options.needs_layout:
            raise RealCompoError(f"gradient={gradient!r} needs a layout; only gradient='text_to_image' does without")
        request, stats = make_request(prompt, negative_prompt, layout, num_images), Stats()
        start = self._draw(len(request.prompts), seed, latents, coefficients, options)
        regions, models = self._prepare(request, options, stats)
        run = Run(models, regions, table, options, stats)
        final, seen = self._denoise(run, *start, trace, callback)
        return Output(self._decode(final, stats), final, seen, stats)

    def _draw(
        self, count: int, seed: int, latents: Tensor | None, coefficients: Tensor | None, options: Options
    ) -> tuple[Tensor, Tensor]:
        """Starting latents (B,4,h,w) and coefficients (B,2,h,w): the caller's, or drawn."""
        generator = _seeded(seed)
        channels, height, width = self.manifest.latent_shape
        drawn = torch.randn((count, channels, height, width), generator=generator)
        drawn_coefficients = torch.randn((count, 2, height, width), generator=generator)
        if options.fixed_weight is not None:  # the softmax of logarithms is the weights themselves
            if coefficients is not None:
                raise RealCompoError(f"gradient={options.gradient!r} has a constant weight: leave coefficients out")
            weights = torch.tensor([1 - options.fixed_weight, options.fixed_weight])
            drawn_coefficients = weights.log()[:, None, None].expand_as(drawn_coefficients)
        return self._given("latents", latents, drawn), self._given("coefficients", coefficients, drawn_coefficients)

    def _given(self, name: str, given: Tensor | None, drawn: Tensor) -> Tensor:
        if given is not None and given.shape != drawn.shape:
            raise RealCompoError(f"{name} has shape {tuple(given.shape)}; these images take {tuple(drawn.shape)}")
        return (drawn if given is None else given).to(self.device, torch.float32)

    def _prepare(self, request: Request, options: Options, stats: Stats) -> tuple[Regions, Models]:
        """Everything that stays the same over the steps: the regions, and the models with what they are told."""
        grounding = make_grounding(request.layouts, self.manifest)
        phrases = [phrase for image in grounding.phrases for phrase in image if options.needs_layout]
        with stats.stage("text"):
            negatives = request.negative_prompts if options.guided else ()
            prompts = self._tokenize([*request.prompts, *negatives], phrases)
            hidden, pooled = self._encode_text(prompts, stats)
            rows = [hidden[text] for text in (*negatives, *request.prompts)]
        regions = make_regions([prompts[text] for text in request.prompts], request.layouts, self.manifest)
        object_tokens = None
        if options.needs_layout:
            with stats.stage("grounding"):
                embeddings = place_embeddings(grounding, pooled, next(iter(pooled.values())).shape[-1])
                object_tokens = self._ground(grounding.boxes, embeddings, grounding.masks, options, stats)
        regions = Regions(*(part.to(self.device) for part in regions))
        padded = pad_regions(regions, self.manifest.max_regions)
        return regions, Models(self._runners, Conditions(torch.stack(rows), object_tokens, padded), options, stats)

    def _tokenize(self, prompts: Sequence[str], phrases: Sequence[str]) -> dict[str, Prompt]:
        """Each distinct text once; only prompts warn, for a phrase's words are its prompt's."""
        encoded = {text: self._encoder.encode(text) for text in dict.fromkeys([*prompts, *phrases])}
        for text in dict.fromkeys(prompts):
            warn_of_losses(encoded[text])
        return encoded

    def _encode_text(self, prompts: Mapping[str, Prompt], stats: Stats) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Hidden states (L,D) and pooled output (D,) of each text, in one call."""
        ids = self._encoder.ids(list(prompts.values())).to(self.device)
        encoded = stats.run(self._runners["text_encoder"], input_ids=ids)
        hidden, pooled = encoded["encoder_hidden_states"].clone(), encoded["pooled_output"].clone()
        return dict(zip(prompts, hidden, strict=True)), dict(zip(prompts, pooled, strict=True))

    def _ground(self, boxes: Tensor, embeddings: Tensor, masks: Tensor, options: Options, stats: Stats) -> Tensor:
        """GLIGEN's object tokens (B or 2B,N,D); unconditional rows have every slot masked."""
        if options.guided:
            boxes, embeddings = torch.cat([boxes, boxes]), torch.cat([embeddings, embeddings])
            masks = torch.cat([torch.zeros_like(masks), masks])
        grounded = stats.run(
            self._runners["grounding"],
            boxes=boxes.to(self.device),
            phrase_embeddings=embeddings.to(self.device),
            masks=masks.to(self.device),
        )
        return grounded["object_tokens"].clone()

    def _denoise(
        self, run: Run, latents: Tensor, coefficients: Tensor, trace: bool, callback: Callback | None
    ) -> tuple[Tensor, list[TraceStep]]:
        """Predict, balance, fuse, step: the final latents, and the trace if asked for."""
        samples, noises = deque([latents], maxlen=SAMPLES_KEPT), deque[Tensor](maxlen=NOISES_KEPT)
        seen: list[TraceStep] = []
        skipped = torch.zeros((), dtype=torch.int64, device=self.device)
        with run.stats.stage("denoise"):
            for i, step in enumerate(run.table):
                predictions = run.models.predict(samples[0], step.timestep, i)
                attention = self._attention(run, predictions, coefficients) if trace else None
                gradient = self._gradient(run, samples[0], predictions, coefficients, i)
                if gradient is not None:
                    gradient, broken = drop_non_finite(gradient)
                    skipped += broken
                    coefficients = update(coefficients, gradient, i, run.options.rows, run.options.coefficient_scale)
                noises.appendleft(_combine(predictions, coefficients))
                samples.appendleft(advance(step, samples, noises))
                if attention:
                    weight = _spatial_weight(predictions, coefficients)
                    seen.append(TraceStep(step.timestep, *attention, coefficients, weight, gradient))
                if callback:
                    callback(i + 1, len(run.table), samples[0], coefficients)
        _warn_of_skipped(run.stats, int(skipped))
        return samples[0], seen

    def _gradient(
        self, run: Run, latents: Tensor, predictions: Mapping[Model, Prediction], coefficients: Tensor, i: int
    ) -> Tensor | None:
        """What the coefficients (B,2,h,w) move down at this row, if they move."""
        if not run.options.updates(i):
            return None
        text, spatial = (predictions[model] for model in BOTH)
        if run.options.gradient == "exact":
            return _exact_gradient(run, latents, text, spatial, coefficients, i)
        return surrogate_gradient(coefficients, text.maps, spatial.maps, run.regions, self.manifest.maps.resolution)

    def _attention(self, run: Run, predictions: Mapping[Model, Prediction], coefficients: Tensor) -> Attention:
        """What the balancer sees of this row's models."""
        maps = [prediction.maps for prediction in predictions.values()]
        if len(maps) == 1:
            return attention_loss(maps[0], *run.regions)
        return mixed_attention(coefficients, maps[0], maps[1], run.regions, self.manifest.maps.resolution)

    def _decode(self, latents: Tensor, stats: Stats) -> list[Image]:
        with stats.stage("decode"):
            decoded = stats.run(self._runners["vae_decoder"], latents=latents / self.manifest.latent_scale)
            return to_images(decoded["images"])


def _seeded(seed: int) -> torch.Generator:
    try:
        return torch.Generator().manual_seed(seed)
    except (RuntimeError, ValueError) as error:
        raise RealCompoError(f"seed={seed} is out of range; use 0 to {2**63 - 1}") from error


def _exact_gradient(
    run: Run, latents: Tensor, text: Prediction, spatial: Prediction, coefficients: Tensor, i: int
) -> Tensor:
    """The gradient of the models' attention losses at the latents that a trial step leads to."""
    step, guided = run.table[i], run.options.trial_guidance
    noise_text, noise_spatial = (
        prediction.noise if guided else prediction.conditional for prediction in (text, spatial)
    )
    kept, added = step.trial
    trial = kept * latents + added * fuse(noise_text, noise_spatial, coefficients)
    cotangent = added * run.models.loss_gradient(trial, step.timestep, i)
    return exact_gradient(coefficients, noise_text, noise_spatial, cotangent)


def _warn_of_skipped(stats: Stats, count: int) -> None:
    """Said once a run, and after it: asking earlier would make every step wait for the GPU."""
    stats.skipped_updates = count
    if count:
        warnings.warn(
            f"{count} updates of the coefficients were left out because their gradient was not finite; if there are "
            "many, build the bundle with --precision fp32 or bf16",
            stacklevel=4,
        )


def _combine(predictions: Mapping[Model, Prediction], coefficients: Tensor) -> Tensor:
    noises = [prediction.noise for prediction in predictions.values()]
    return noises[0] if len(noises) == 1 else fuse(noises[0], noises[1], coefficients)


def _spatial_weight(predictions: Mapping[Model, Prediction], coefficients: Tensor) -> Tensor:
    """How much of the spatial model went into each pixel: (B,h,w)."""
    if len(predictions) == 2:
        return fusing_weights(coefficients)[:, 1]
    return torch.full_like(coefficients[:, 1], float("spatial" in predictions))
