"""What this project is measured against: RealCompo in eager PyTorch, and the stock pipeline of either model.

The eager RealCompo is written from the paper (arXiv 2402.12908) on plain diffusers modules and schedulers, with
autograd through whole UNets. It shares no code with the runtime's denoising or the exporter's graphs, so that it can
say whether they are right as well as how fast they are. In a pair, text-to-image comes first and spatial second.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    PNDMScheduler,
    StableDiffusionGLIGENPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.image_processor import VaeImageProcessor
from diffusers.models.attention_processor import Attention
from diffusers.models.controlnets import MultiControlNetModel
from PIL.Image import Image
from torch import Tensor
from torch.nn import Module
from transformers import AutoTokenizer, CLIPTextModel, CLIPTextModelWithProjection

from export.checkpoints.folders import (
    Checkpoint,
    load_controlnet,
    load_text_encoder,
    load_text_encoder_2,
    load_unet,
    load_vae,
    open_checkpoints,
)
from runtime.layouts.layout import Layout
from runtime.spatial.control_images import ControlKind, control_image
from runtime.text.tokens import Prompt, Token, region_tokens

Model = Literal["text_to_image", "spatial"]
BOTH: tuple[Model, ...] = ("text_to_image", "spatial")
MAX_REGIONS = 30  # slots of GLIGEN's grounding, as in diffusers' pipeline
MAP_AREA, MAP_AREA_XL = 16 * 16, 32 * 32  # pixels of the attention maps that the paper uses; of SDXL in up blocks alone
LOSS_SCALE = 2.0**10  # lifts fp16 gradients above underflow; a power of two changes nothing in the other types
SCHEDULERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "plms": (PNDMScheduler, {"skip_prk_steps": True}),
    "ddim": (DDIMScheduler, {}),
}
UNCHECKED: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


@dataclass(frozen=True)
class Form:
    """Where the paper and the authors' released code differ.

    Args:
        gradient_from: the models whose attention loss moves the coefficients.
        trial_guidance: whether the trial step fuses guided predictions instead of conditional ones.
        repeats_forwards: predict anew what is known already, and look at maps that are not used. It changes no result:
            it is there to cost what the released code costs.
    """

    gradient_from: tuple[Model, ...] = BOTH
    trial_guidance: bool = False
    repeats_forwards: bool = False


PAPER = Form()
RELEASED_LAYOUT = Form(gradient_from=("spatial",), repeats_forwards=True)


@dataclass(frozen=True)
class Settings:
    """How to sample; the same words as the runtime's."""

    steps: int = 50
    guidance_scale: float = 7.5
    switch_step: int | None = None  # None is 0.4 of the steps
    sampler: Literal["plms", "ddim"] = "plms"
    coefficient_scale: float = 1e6
    update_every: int = 1
    form: Form = PAPER
    control_scale: float = 1.0  # of what ControlNets add

    @property
    def guided(self) -> bool:
        return self.guidance_scale > 1

    @property
    def first_balanced(self) -> int:
        """The first evaluation of both models; those before are the spatial one's alone."""
        return round(0.4 * self.steps) if self.switch_step is None else self.switch_step

    def updates(self, i: int) -> bool:
        """Whether evaluation i moves the coefficients."""
        return i >= self.first_balanced and (i - self.first_balanced) % self.update_every == 0


DEFAULTS = Settings()


class SecondText(NamedTuple):
    """SDXL's second text encoder, and its tokenizer."""

    encoder: CLIPTextModelWithProjection
    tokenizer: Any


class Rows(NamedTuple):
    """What the models are told of N rows; the text-to-image one takes the first two fields alone."""

    encoder_hidden_states: Tensor  # (N,L,D)
    added: dict[str, Tensor]  # text_embeds (N,P) and time_ids (N,6), for SDXL alone
    boxes: Tensor  # (N,30,4), xyxy in 0..1
    phrase_embeddings: Tensor  # (N,30,D)
    masks: Tensor  # (N,30), 1 for a region and 0 for an empty slot
    control_images: Tensor  # (N,3n,H,W) in 0..1, of n ControlNets; with none, the spatial model is GLIGEN


class Regions(NamedTuple):
    """What the loss knows of the layouts; R is the most regions of an image, absent ones weigh 0."""

    masks: Tensor  # (B,R,P) in 0..1, at map resolution, row-major
    tokens: Tensor  # (B,R,L), 1 at the region's tokens
    weights: Tensor  # (B,R)


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

    @property
    def rates(self) -> list[float]:
        """rho_i of each evaluation."""
        count = len(self.scheduler.timesteps)
        return (self.settings.coefficient_scale * torch.linspace(1, 0.5, count, dtype=torch.float64).sqrt()).tolist()


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

    def __init__(
        self,
        unets: dict[Model, UNet2DConditionModel],
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: Any,
        scheduler_config: dict[str, Any],
        controlnets: Mapping[ControlKind, ControlNetModel] | None = None,
        latent_size: tuple[int, int] | None = None,
        second_text: SecondText | None = None,
    ) -> None:
        self.unets = unets
        self.second_text = second_text
        self.controlnets = controlnets or {}
        self.vae = vae
        self.text_encoder = text_encoder
        self.tokenizer = tokenizer
        self.scheduler_config = scheduler_config
        self.device: torch.device = text_encoder.device
        self.dtype: torch.dtype = text_encoder.dtype
        self.state_dtype = torch.promote_types(self.dtype, torch.float32)
        self.latent_size = latent_size or (unets["text_to_image"].config.sample_size,) * 2
        self.map_size, self.map_layers = find_map_layers(unets["text_to_image"], self.latent_size)
        if find_map_layers(unets["spatial"], self.latent_size) != (self.map_size, self.map_layers):
            raise ValueError("the two UNets differ in their cross-attention layers")

    @classmethod
    def load(
        cls,
        text_to_image: Path | str,
        spatial: Path | str,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        controlnets: Mapping[ControlKind, Path | str] | None = None,
        latent_size: tuple[int, int] | None = None,
    ) -> "EagerRealCompo":
        """From two diffusers folders: a pipeline, and a `unet` with gated grounding; or the pipeline twice, and those
        of ControlNets. Latents are of `latent_size` (h,w), by default that of the UNet's training.

        Raises:
            RealCompoError: a folder that lacks a part or has one of another architecture.
        """
        kinds = controlnets or {}
        checkpoints = open_checkpoints(str(text_to_image), str(spatial), list(map(str, kinds.values())), download=False)
        base, cast = checkpoints.text_to_image, _caster(dtype, device)
        return cls(
            {model: cast(load_unet(checkpoints.of(model))) for model in BOTH},
            cast(load_vae(base)),
            cast(load_text_encoder(base)),
            AutoTokenizer.from_pretrained(base.folder / "tokenizer"),
            base.read_json("scheduler/scheduler_config.json"),
            dict(zip(kinds, map(cast, map(load_controlnet, checkpoints.controlnets)), strict=True)),
            latent_size,
            SecondText(cast(load_text_encoder_2(base)), AutoTokenizer.from_pretrained(base.folder / "tokenizer_2"))
            if base.is_xl
            else None,
        )

    @torch.no_grad()
    def __call__(
        self,
        prompts: Sequence[str],
        layouts: Sequence[Layout],
        latents: Tensor,
        coefficients: Tensor,
        settings: Settings = DEFAULTS,
        negative_prompts: Sequence[str] | None = None,
    ) -> Result:
        """Denoise latents (B,4,h,w), fused by coefficients (B,2,h,w), one prompt and layout for each image."""
        run = self.prepare(prompts, layouts, settings, negative_prompts)
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
        scheduler, options = SCHEDULERS[settings.sampler]
        stepper = scheduler.from_config(self.scheduler_config, **options)
        stepper.set_timesteps(settings.steps)
        conditional = told = Rows(
            *self._encode_prompts(prompts), *self._encode_layouts(layouts), self._draw_controls(layouts)
        )
        if settings.guided:
            text, added = self._encode_negatives(negative_prompts or [""] * len(prompts))
            unconditional = conditional._replace(
                encoder_hidden_states=text, added=added, masks=torch.zeros_like(conditional.masks)
            )
            told = Rows(*map(_cat, zip(unconditional, conditional, strict=True)))
        return Run(settings, stepper, conditional, told, self._find_regions(prompts, layouts))

    def trial_loss(
        self, run: Run, outputs: Sequence[Tensor], latents: Tensor, coefficients: Tensor, timestep: int
    ) -> Tensor:
        """The attention loss (B,) after a trial step that fuses both models' outputs (B,4,h,w): steps 2 to 4."""
        trial = ddim_step(run.scheduler, fuse(outputs, coefficients), timestep, latents)
        models = run.settings.form.gradient_from
        if run.settings.form.repeats_forwards:
            for model in set(BOTH).difference(models):
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
        if i < settings.first_balanced:
            output = self._predict(run, "spatial", latents, timestep).guided
            return output, Evaluation(timestep, latents, coefficients, after, gradient, loss)
        predictions = None if settings.form.repeats_forwards else self._predict_both(run, latents, timestep)
        if settings.updates(i):
            outputs = self._outputs_to_try(run, predictions, latents, timestep)
            gradient, loss = self._differentiate(run, outputs, latents, coefficients, timestep)
            after = coefficients - run.rates[i] * gradient
        predictions = predictions or self._predict_both(run, latents, timestep)
        output = fuse([prediction.guided for prediction in predictions], after)
        return output, Evaluation(timestep, latents, coefficients, after, gradient, loss)

    def _outputs_to_try(
        self, run: Run, predictions: Sequence[Prediction] | None, latents: Tensor, timestep: int
    ) -> list[Tensor]:
        """Both models' outputs (B,4,h,w) for the trial step, predicted here if they are not known."""
        if run.settings.form.trial_guidance:
            return [prediction.guided for prediction in predictions or self._predict_both(run, latents, timestep)]
        if predictions:
            return [prediction.conditional for prediction in predictions]
        return [self._run_unet(run, model, latents, timestep, run.conditional) for model in BOTH]

    def _differentiate(
        self, run: Run, outputs: Sequence[Tensor], latents: Tensor, coefficients: Tensor, timestep: int
    ) -> tuple[Tensor, Tensor]:
        """The gradient (B,2,h,w) of each image's loss with respect to its coefficients, and the losses (B,)."""
        with torch.enable_grad():
            leaf = coefficients.detach().requires_grad_()
            loss = self.trial_loss(run, outputs, latents, leaf, timestep)
            (gradient,) = torch.autograd.grad(LOSS_SCALE * loss.sum(), leaf)
        return gradient / LOSS_SCALE, loss.detach()

    def _predict_both(self, run: Run, latents: Tensor, timestep: int) -> list[Prediction]:
        return [self._predict(run, model, latents, timestep) for model in BOTH]

    def _predict(self, run: Run, model: Model, latents: Tensor, timestep: int) -> Prediction:
        """Classifier-free guidance (arXiv 2207.12598), all rows in one call."""
        if not run.settings.guided:
            conditional = self._run_unet(run, model, latents, timestep, run.told)
            return Prediction(conditional, conditional)
        unconditional, conditional = self._run_unet(run, model, torch.cat([latents] * 2), timestep, run.told).chunk(2)
        return Prediction(conditional, unconditional + run.settings.guidance_scale * (conditional - unconditional))

    def _see(self, run: Run, model: Model, latents: Tensor, timestep: int) -> Tensor:
        """A model's attention maps (B,P,L), averaged over heads and layers, of the conditional rows."""
        with recording(self.unets[model], self.map_layers) as maps:
            self._run_unet(run, model, latents, timestep, run.conditional)
        return torch.stack([maps[layer] for layer in self.map_layers]).mean(0)

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
        if not self.controlnets:
            grounding = {"boxes": rows.boxes, "positive_embeddings": rows.phrase_embeddings, "masks": rows.masks}
            return {"cross_attention_kwargs": {"gligen": grounding}}
        down, mid = MultiControlNetModel(list(self.controlnets.values()))(
            latents,
            timestep,
            rows.encoder_hidden_states,
            list(rows.control_images.split(3, dim=1)),
            [run.settings.control_scale] * len(self.controlnets),
            added_cond_kwargs=rows.added,
            return_dict=False,
        )
        return {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}

    def _encode_prompts(self, texts: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """Hidden states (B,L,D); of SDXL those of both encoders' last layers but one, and what is added."""
        ids = self._tokenize(texts)["input_ids"].to(self.device)
        if self.second_text is None:
            return self.text_encoder(ids).last_hidden_state, {}
        padding = {"padding": "max_length", "max_length": self._max_tokens, "truncation": True, "return_tensors": "pt"}
        ids_2 = self.second_text.tokenizer(list(texts), **padding)["input_ids"].to(self.device)
        first = self.text_encoder(ids, output_hidden_states=True)
        second = self.second_text.encoder(ids_2, output_hidden_states=True)
        size = [side * self._latent_factor for side in self.latent_size]
        time_ids = torch.tensor([[*size, 0, 0, *size]] * len(texts), dtype=self.dtype, device=self.device)
        hidden_states = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        return hidden_states, {"text_embeds": second.text_embeds, "time_ids": time_ids}

    def _encode_negatives(self, texts: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """As prompts; to SDXL an empty one is zeros, as it is to diffusers' pipeline when none is given."""
        hidden_states, added = self._encode_prompts(texts)
        if added:
            empty = torch.tensor([not text for text in texts], device=self.device)
            hidden_states = hidden_states.masked_fill(empty[:, None, None], 0)
            added = added | {"text_embeds": added["text_embeds"].masked_fill(empty[:, None], 0)}
        return hidden_states, added

    @property
    def _latent_factor(self) -> int:
        """Pixels a latent, along a side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    def _encode_layouts(self, layouts: Sequence[Layout]) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (B,30,4), pooled embeddings of phrases (B,30,D) and masks (B,30), 0 in empty slots."""
        width = self.text_encoder.config.hidden_size
        boxes, embeddings, masks = (
            torch.zeros(len(layouts), MAX_REGIONS, *shape, dtype=self.dtype, device=self.device)
            for shape in ((4,), (width,), ())
        )
        for b, layout in enumerate(layouts):
            count = len(layout.regions)
            if not 1 <= count <= MAX_REGIONS:
                raise ValueError(f"layout {b} has {count} regions; give 1 to {MAX_REGIONS}")
            boxes[b, :count] = torch.tensor([region.bounding_box() for region in layout.regions]).to(boxes)
            ids = self._tokenize([region.phrase for region in layout.regions])["input_ids"].to(self.device)
            embeddings[b, :count] = self.text_encoder(ids).pooler_output
            masks[b, :count] = 1
        return boxes, embeddings, masks

    def _draw_controls(self, layouts: Sequence[Layout]) -> Tensor:
        """(B,3n,H,W) in 0..1."""
        height, width = (side * self._latent_factor for side in self.latent_size)
        drawn = [[control_image(layout, kind, (height, width)) for kind in self.controlnets] for layout in layouts]
        images = [torch.cat(image) if image else torch.zeros(0, height, width) for image in drawn]
        return torch.stack(images).to(self.device, self.dtype)

    def _find_regions(self, prompts: Sequence[str], layouts: Sequence[Layout]) -> Regions:
        most, length = max(len(layout.regions) for layout in layouts), self._max_tokens
        masks, tokens, weights = (
            torch.zeros(len(layouts), most, *shape, dtype=self.state_dtype)
            for shape in ((math.prod(self.map_size),), (length,), ())
        )
        for b, (prompt, layout) in enumerate(zip(prompts, layouts, strict=True)):
            found = region_tokens(self._align(prompt), layout, length)
            for r, (region, indices) in enumerate(zip(layout.regions, found, strict=True)):
                masks[b, r] = torch.from_numpy(region.mask_at(self.map_size)).flatten()
                tokens[b, r, list(indices)] = 1
                weights[b, r] = 1
        return Regions(*(part.to(self.device) for part in (masks, tokens, weights)))

    def _align(self, text: str) -> Prompt:
        """A text with the place of each of its tokens."""
        encoded = {name: values[0].tolist() for name, values in self._tokenize([text]).items()}
        ids, places, special = (encoded[name] for name in ("input_ids", "offset_mapping", "special_tokens_mask"))
        tokens = [
            Token(i, start, end, ids[i] != self.tokenizer.unk_token_id)
            for i, (start, end) in enumerate(places)
            if not special[i]
        ]
        return Prompt(text, tuple(ids), tuple(tokens), cut="")

    def _tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Token ids and where they stand in their texts, padded and cut as diffusers' pipelines do it."""
        return dict(
            self.tokenizer(
                list(texts),
                padding="max_length",
                max_length=self._max_tokens,
                truncation=True,
                return_offsets_mapping=True,
                return_special_tokens_mask=True,
                return_tensors="pt",
            )
        )

    @property
    def _max_tokens(self) -> int:
        return min(self.tokenizer.model_max_length, self.text_encoder.config.max_position_embeddings)


class Recorder:
    """An attention processor that keeps its softmax, averaged over heads: (N,P,L), with its gradient."""

    def __init__(self, maps: dict[str, Tensor], layer: str) -> None:
        self._maps = maps
        self._layer = layer

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: object
    ) -> Tensor:
        """(N,P,C) pixels and (N,L,D) tokens -> (N,P,C)."""
        query, key, value = (
            attn.head_to_batch_dim(projected)
            for projected in (
                attn.to_q(hidden_states),
                attn.to_k(encoder_hidden_states),
                attn.to_v(encoder_hidden_states),
            )
        )
        probabilities = attn.get_attention_scores(query, key)  # (N * heads,P,L)
        precise = probabilities.to(torch.promote_types(probabilities.dtype, torch.float32))
        self._maps[self._layer] = precise.unflatten(0, (-1, attn.heads)).mean(1)
        projection, dropout = attn.to_out
        return dropout(projection(attn.batch_to_head_dim(probabilities @ value)))


@contextmanager
def recording(unet: UNet2DConditionModel, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Fill a dictionary with the layers' attention maps (N,P,L) while the UNet runs; leave it as it was."""
    maps: dict[str, Tensor] = {}
    modules = {layer: unet.get_submodule(layer) for layer in layers}
    processors = {layer: module.processor for layer, module in modules.items()}
    try:
        for layer, module in modules.items():
            module.set_processor(Recorder(maps, layer))
        yield maps
    finally:
        for layer, module in modules.items():
            module.set_processor(processors[layer])


@torch.no_grad()
def find_map_layers(
    unet: UNet2DConditionModel, latent_size: tuple[int, int]
) -> tuple[tuple[int, int], tuple[str, ...]]:
    """The cross-attention layers of down and up blocks at the resolution nearest to 16x16 that both have, by trying;
    of SDXL those of up blocks, nearest to 32x32."""
    config = unet.config
    xl = config.addition_embed_type == "text_time"
    ways, wanted = (("up",), MAP_AREA_XL) if xl else (("down", "up"), MAP_AREA)
    latents = torch.zeros(1, config.in_channels, *latent_size, dtype=unet.dtype, device=unet.device)
    layers = [name for name, _ in unet.named_modules() if name.endswith("attn2") and name.startswith(ways)]
    pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim if xl else 0
    added = {"text_embeds": latents.new_zeros(1, pooled), "time_ids": latents.new_zeros(1, 6)}
    with recording(unet, layers) as maps:
        text = latents.new_zeros(1, 1, config.cross_attention_dim)
        unet(latents, 0, encoder_hidden_states=text, added_cond_kwargs=added)
    areas = {layer: maps[layer].shape[1] for layer in layers}
    common = set.intersection(*({areas[layer] for layer in layers if layer.startswith(way)} for way in ways))
    area = min(common, key=lambda pixels: abs(math.log(pixels / wanted)))
    halvings = math.isqrt(math.prod(latent_size) // area)
    return (latent_size[0] // halvings, latent_size[1] // halvings), tuple(
        layer for layer in layers if areas[layer] == area
    )


def _cat(parts: tuple[Any, Any]) -> Any:
    """Rows after rows, of tensors or of dictionaries of them."""
    first, second = parts
    if isinstance(first, dict):
        return {name: torch.cat([tensor, second[name]]) for name, tensor in first.items()}
    return torch.cat(parts)


def fuse(outputs: Sequence[Tensor], coefficients: Tensor) -> Tensor:
    """Both models' outputs (B,4,h,w), weighed by the softmax of coefficients (B,2,h,w)."""
    weights = coefficients.softmax(1).unsqueeze(2)  # (B,2,1,h,w)
    return (weights * torch.stack(list(outputs), dim=1)).sum(1)


def attention_loss(maps: Tensor, regions: Regions) -> Tensor:
    """The share of each region's attention outside its mask, summed over regions: maps (B,P,L) -> (B,)."""
    attention = torch.einsum("bpl,brl->brp", maps, regions.tokens)  # tokens' sum: a share is the same of their mean
    total = attention.sum(2)
    inside = (regions.masks * attention).sum(2) / torch.where(total > 0, total, 1)  # absent regions have no attention
    return (regions.weights * (1 - inside)).sum(1)


def ddim_step(scheduler: Any, output: Tensor, timestep: int, latents: Tensor) -> Tensor:
    """DDIM (arXiv 2010.02502) with eta 0, to the timestep that the scheduler's steps lead to: (B,4,h,w)."""
    following = timestep - scheduler.config.num_train_timesteps // scheduler.num_inference_steps
    alpha = float(scheduler.alphas_cumprod[timestep])
    alpha_following = float(scheduler.alphas_cumprod[following] if following >= 0 else scheduler.final_alpha_cumprod)
    if scheduler.config.prediction_type == "v_prediction":  # arXiv 2202.00512
        noise = math.sqrt(alpha) * output + math.sqrt(1 - alpha) * latents
    else:
        noise = output
    clean = (latents - math.sqrt(1 - alpha) * noise) / math.sqrt(alpha)
    return math.sqrt(alpha_following) * clean + math.sqrt(1 - alpha_following) * noise


def stock_text_to_image(
    text_to_image: Path | str, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> StableDiffusionPipeline:
    """diffusers' own pipeline of the text-to-image model."""
    base = _checkpoint("text_to_image", text_to_image)
    return _quiet(StableDiffusionPipeline(**_components(base, base, dtype, device), **UNCHECKED))


def stock_spatial(
    text_to_image: Path | str,
    spatial: Path | str,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> StableDiffusionGLIGENPipeline:
    """diffusers' own GLIGEN pipeline of the spatial model, with the other's text encoder and VAE."""
    base, grounded = _checkpoint("text_to_image", text_to_image), _checkpoint("spatial", spatial)
    return _quiet(StableDiffusionGLIGENPipeline(**_components(base, grounded, dtype, device), **UNCHECKED))


def _checkpoint(model: Model, folder: Path | str) -> Checkpoint:
    return Checkpoint(model, str(folder), None, Path(folder))


def _components(
    base: Checkpoint, unet_of: Checkpoint, dtype: torch.dtype, device: torch.device | str
) -> dict[str, Any]:
    """A pipeline's parts, put together here because a folder of random weights has no model_index.json."""
    cast = _caster(dtype, device)
    text_encoder = cast(load_text_encoder(base))
    tokenizer = AutoTokenizer.from_pretrained(base.folder / "tokenizer")
    tokenizer.model_max_length = min(tokenizer.model_max_length, text_encoder.config.max_position_embeddings)
    return {
        "vae": cast(load_vae(base)),
        "text_encoder": text_encoder,
        "tokenizer": tokenizer,
        "unet": cast(load_unet(unet_of)),
        "scheduler": PNDMScheduler.from_config(base.read_json("scheduler/scheduler_config.json"), skip_prk_steps=True),
    }


def _caster(dtype: torch.dtype, device: torch.device | str) -> Callable[[Any], Any]:
    return partial(Module.to, dtype=dtype, device=device)  # diffusers' own `to` warns


def _quiet(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
