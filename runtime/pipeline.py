"""RealCompo (arXiv 2402.12908): one denoising run over two models, balanced per pixel."""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from runtime.backends import Engines, load_engines
from runtime.bundle.manifest import Manifest, check_files, how_to_rebuild, read_manifest
from runtime.denoising.balancer import Regions, attention_loss
from runtime.denoising.evaluation import Change
from runtime.denoising.loop import Callback, Course, Denoiser, Tell
from runtime.denoising.models import PREDICTION_ROLES, Conditions
from runtime.denoising.noise import Noise, seeded
from runtime.denoising.numbers import make_numbers, numbers_at
from runtime.errors import RealCompoError
from runtime.layouts.layout import Layout
from runtime.modes import MODES, check_modes, engines_of_modes, engines_of_run, gradient_of, mode_of
from runtime.options import Options, Work
from runtime.output import Output, TraceStep, to_images
from runtime.presets import preset_knobs
from runtime.request import Request, make_regions, make_request, pad_regions, read_knobs, with_knobs
from runtime.sampling import make_table
from runtime.spatial import kind_of, needed_roles
from runtime.stats import Stats
from runtime.text.encoder import TextEncoder
from runtime.text.tokens import PromptEncoder, losses, open_tokenizers
from runtime.turns import Turns
from runtime.words import MODELS, Model, Role

COEFFICIENTS = ("normal", "equal")  # how they may start: as the paper draws them, or half of each model


class RealCompo:
    """A loaded bundle, ready to draw. Threads that call it take turns, in the order in which they came."""

    def __init__(
        self,
        manifest: Manifest,
        tokenizers: Sequence[PromptEncoder],
        engines: Engines,
        modes: Sequence[str] | None = None,
    ) -> None:
        self.manifest = manifest
        self.modes = modes and tuple(dict.fromkeys(modes))  # that may be asked for; None: all
        self.device = engines.device
        self._kind = kind_of(manifest)
        self._spatial = self._kind.open(manifest, engines.runners, engines.device)
        self._texts = TextEncoder(manifest, tokenizers, engines.runners["text_encoder"], engines.device)
        self._engines = engines
        self._runners = engines.runners
        self._streams = engines.streams
        self._denoiser = Denoiser(manifest, engines)
        self._turns = Turns()

    @classmethod
    def load(
        cls,
        path: Path | str,
        backend: str = "auto",
        device: str = "auto",
        verify: bool = True,
        second_stream: bool = False,
        modes: Sequence[str] | None = None,
    ) -> "RealCompo":
        """Open the bundle in a folder. An engine is loaded when a picture first needs it.

        Args:
            path: the folder that `python -m export build` wrote.
            backend: `onnx`: ONNX Runtime on the CPU or a GPU; `onnx-tensorrt`: the same through its TensorRT provider,
                which builds its own engines when they are first loaded; `tensorrt-rtx` or `tensorrt`: the bundle's
                plans; `auto`: the plans if there are any and they run here, or else `onnx`.
            device: `auto`, `cpu`, `cuda` or `cuda:N`.
            verify: check every file's hash first; without, a damaged file may go unnoticed.
            second_stream: on a GPU, run both models side by side. It takes more memory and pays where one model alone
                does not fill the GPU. Not with `onnx-tensorrt`.
            modes: the ways of combining the models that may be asked for (`gradient`; `fixed` stands for every
                `fixed:W`), first the one that a call has that does not say (of `fixed`, `fixed:0.5`). What they need is
                loaded at once, and nothing else is ever opened, hashed or needed.

        Raises:
            RealCompoError: not a bundle, a damaged one, or one that this machine cannot run.
        """
        if modes is not None:
            check_modes(modes)
        folder = Path(path)
        manifest = read_manifest(folder)
        kind, shared = kind_of(manifest), manifest.shared_unet
        roles = None if modes is None else engines_of_modes(modes, kind, shared)
        needed = needed_roles(kind, shared) if roles is None else roles
        if absent := [role for role in needed if role not in manifest.engines]:
            raise RealCompoError(f"{folder} has no {', '.join(absent)} engine. {how_to_rebuild(folder, manifest)}")
        if verify:
            check_files(folder, manifest, roles)
        tokenizers = open_tokenizers(folder, manifest)
        engines = load_engines(folder, manifest, backend, device, second_stream, roles)
        engines.open(roles or ())
        return cls(manifest, tokenizers, engines, modes)

    @property
    def most_images(self) -> int | None:
        """Images that one call draws at most, with guidance; None: any number. Plans take so many rows and no more.

        It loads the engines that predict noise, which say so.
        """
        manifest = self.manifest
        roles = engines_of_modes(self.modes or (self.default_gradient,), self._kind, manifest.shared_unet)
        limits = [self._runners[role].most_rows for role in roles if role in PREDICTION_ROLES.values()]
        rows = min((limit for limit in limits if limit is not None), default=None)
        return rows and max(rows // (4 if manifest.shared_unet else 2), 1)

    @with_knobs
    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        layout: Layout | Sequence[Layout] | None = None,
        negative_prompt: str | Sequence[str] = "",
        num_images: int | Sequence[int] = 1,
        seeds: Sequence[int] | None = None,
        latents: Tensor | None = None,
        coefficients: Tensor | str | None = None,
        trace: bool | Tell = False,
        callback: Callback | None = None,
        change_gradient: Change | None = None,
        **knobs: Any,
    ) -> Output:
        """Draw B images of (H,W) = `manifest.image_size`: `num_images` for each prompt.

        Args:
            prompt: one, or a list for a batch.
            layout: where the objects belong; one for all images, or a list with one for each prompt or each image.
                Only `gradient="text_to_image"` does without; it shows one to the trace alone.
            negative_prompt: what to steer away from; one, or one for each prompt. An empty one is zeros to an SDXL that
                was trained so, as diffusers has it where none is given.
            num_images: images for each prompt; one number, or one for each prompt.
            seeds: one for each prompt, instead of `seed`: a prompt's images then start as if it were drawn alone.
            latents: (B,4,h,w) float32 to start from instead of drawn ones. The seed draws those of all its images at
                once, as diffusers does, then the coefficients, then the fresh noise of samplers that add it.
            coefficients: what to start from: `normal`, the default, is drawn from N(0, 1) as in the paper; `equal` is
                half of each model; or (B,2,h,w) float32, text-to-image first. A `coefficient_seed` draws one pair of
                maps for all images.
            trace: record what the balancer saw; see `TraceStep`. A function is told each entry at once instead.
            callback: called after each evaluation with its number (from 1), how many there are, the latents and the
                coefficients; what it raises ends the run. It cannot draw with this pipeline, but call `decode`. Unless
                it returns None, the run goes on with those images alone whose numbers in these latents it returns.
            change_gradient: for experiments such as placebos: a function of the gradient (B,2,h,w) of all images, of
                what the balancer sees (`runtime.denoising.balancer.Attention`) and of the images' `Regions`. What it
                returns, of the gradient's shape, their coefficients move down. Torch operations alone, as a CUDA graph
                has it.
            knobs: those of `runtime.options.Options`, and the strengths of the bundle's kind of spatial model. Those of
                `runtime.options.FORMS` are as in their `form` where they are None.

        Raises:
            RealCompoError: an argument out of its range, or a layout that does not fit the prompt or the bundle.
            TypeError: an unknown argument.
        """
        request, options, course = self._read(prompt, negative_prompt, layout, num_images, knobs)
        for line in _left_out(options, course):
            warnings.warn(line, stacklevel=2)
        noise, stats, seen = _noise(request, options.seed, seeds), Stats(), list[TraceStep]()
        tell = seen.append if trace is True else trace or None
        with self._turns.take(), self._at_work():
            self._engines.open(
                engines_of_run(course.works, options.needs_layout, self._kind, self.manifest.shared_unet)
            )
            start = self._draw(noise, latents, coefficients, options)
            conditions = self._prepare(request, options, stats)
            final = self._denoiser.run(course, *start, conditions, noise, stats, tell, callback, change_gradient)
            return Output(self._decode(final, stats), final, seen, stats)

    def check(
        self,
        prompt: str,
        *,
        layout: Layout | None = None,
        negative_prompt: str = "",
        num_images: int = 1,
        coefficients: str | None = None,
        **knobs: Any,
    ) -> list[str]:
        """What a call with these arguments would warn of in the prompts, known before any engine runs.

        Raises:
            RealCompoError: as a call does, but for what only making control images shows.
        """
        request, options, course = self._read(prompt, negative_prompt, layout, num_images, knobs)
        self._draw(_noise(request, options.seed, None), None, coefficients, options)
        prompts = self._texts.tokenize([prompt, negative_prompt] if options.guided else [prompt])
        make_regions([prompts[prompt]] * num_images, request.layouts, self.manifest, options)
        return [*_left_out(options, course), *(loss for text in prompts.values() for loss in losses(text))]

    def decode(self, latents: Tensor) -> list[Image]:
        """The images of latents (B,4,h,w) as they are now, also within a callback."""
        with self._turns.join(), self._at_work():
            return self._decode(latents, Stats())

    def region_maps(
        self, prompt: str | Sequence[str], *, layout: Layout | Sequence[Layout], latents: Tensor, timestep: float
    ) -> dict[Model, Tensor]:
        """Where each model looks for each region in given latents: attention (B,R,P) of the region's tokens, R being
        the most regions of an image and P the pixels of `manifest.maps.resolution`, row by row.

        Args:
            prompt: one for each image, and `layout` likewise.
            latents: (B,4,h,w) float32, as noisy as the models know them at that timestep, such as those of a picture
                that noise was added to.
            timestep: the training timestep.

        Raises:
            RealCompoError: latents of another shape, or a layout that does not fit the prompt or the bundle.
        """
        options, strengths = read_knobs({"guidance_scale": 1.0}, self._kind)
        request = make_request(prompt, "", layout, 1)
        expected = (len(request.prompts), *self.manifest.latent_shape)
        if latents.shape != expected:
            raise RealCompoError(f"latents has shape {tuple(latents.shape)}; these images take {expected}")
        with self._turns.take(), self._at_work():
            conditions = self._prepare(request, options, Stats())
            numbers = numbers_at(timestep, self._spatial.scales(strengths, 1)[0], self.device)
            work, given = Work(MODELS, guided=False, gradient=None), latents.to(self.device, torch.float32)
            predictions = self._denoiser.models(conditions).predict(given, numbers, work)
            found = {model: attention_loss(made.maps, *conditions.regions) for model, made in predictions.items()}
        return {model: attention.region_maps[:, : conditions.most_regions] for model, attention in found.items()}

    @property
    def gradients(self) -> tuple[str, ...]:
        """One of each mode that may be asked for, first the one that a call has that does not say."""
        return tuple(map(gradient_of, self.modes or MODES))

    @property
    def default_gradient(self) -> str:
        """What a call has that does not say: `exact`, or the first of `modes`."""
        return self.gradients[0]

    @property
    def open_engines(self) -> tuple[Role, ...]:
        """Those that are loaded so far."""
        return tuple(self._runners)

    def preset(self, name: str | None = None, **given: Any) -> dict[str, Any]:
        """The knobs of a row of `runtime.presets.PRESETS`, over what a distilled model in the bundle wants, with those
        given instead of its own: `pipe(prompt, layout=layout, **pipe.preset("fast", steps=20))`. `recommended` is what
        its study drew with, and nothing else.

        Raises:
            RealCompoError: no preset of that name, or `recommended` in a bundle that no study has been stored in.
        """
        return preset_knobs(name, self.manifest, given)

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Gradients are asked for where they are needed, which the caller's inference mode would forbid."""
        with torch.inference_mode(False), torch.no_grad(), self._streams.own():
            yield

    def _read(
        self,
        prompt: str | Sequence[str],
        negative_prompt: str | Sequence[str],
        layout: Layout | Sequence[Layout] | None,
        num_images: int | Sequence[int],
        knobs: Mapping[str, Any],
    ) -> tuple[Request, Options, Course]:
        request = make_request(prompt, negative_prompt, layout, num_images)
        options, strengths = read_knobs({"gradient": self.default_gradient, **knobs}, self._kind)
        self._check_mode(options.gradient)
        course = self._plan(options, strengths)
        if layout is None and options.needs_layout:
            raise RealCompoError(
                f"gradient={options.gradient!r} needs a layout; only gradient='text_to_image' does without"
            )
        return request, options, course

    def _check_mode(self, gradient: str) -> None:
        if self.modes is not None and mode_of(gradient) not in self.modes:
            raise RealCompoError(
                f"gradient={gradient!r} is not among the modes that are loaded, {', '.join(self.modes)}; use one of "
                "these, or load the bundle with that mode too"
            )

    def _plan(self, options: Options, strengths: Any) -> Course:
        table = make_table(options.sampler, options.steps, self.manifest.scheduler, options.spacing)
        works = options.works(table, switch_step=round(self._kind.alone * options.steps))
        scales, pixels = self._spatial.scales(strengths, len(table)), math.prod(self.manifest.latent_shape[1:])
        return Course(table, works, make_numbers(table, options, scales, pixels, self.device))

    def _draw(
        self,
        noise: Noise,
        latents: Tensor | None,
        coefficients: Tensor | str | None,
        options: Options,
    ) -> tuple[Tensor, Tensor]:
        """Starting latents (B,4,h,w) and coefficients (B,2,h,w): the caller's, or drawn."""
        channels, height, width = self.manifest.latent_shape
        drawn = noise.draw(channels, height, width)
        drawn_coefficients = noise.draw(2, height, width)
        if options.coefficient_seed is not None:
            drawn_coefficients = _shared_coefficients(options.coefficient_seed, drawn_coefficients)
        started = _start_coefficients(coefficients, drawn_coefficients, options.fixed_weight)
        return self._given("latents", latents, drawn), self._given("coefficients", started, drawn_coefficients)

    def _given(self, name: str, given: Tensor | None, drawn: Tensor) -> Tensor:
        if given is not None and given.shape != drawn.shape:
            raise RealCompoError(f"{name} has shape {tuple(given.shape)}; these images take {tuple(drawn.shape)}")
        return (drawn if given is None else given).to(self.device, torch.float32)

    def _prepare(self, request: Request, options: Options, stats: Stats) -> Conditions:
        """What the models are told at every step."""
        layouts = request.layouts
        with stats.stage("text"):
            negatives = request.negative_prompts if options.guided else ()
            phrases = self._spatial.phrases(layouts) if options.needs_layout else []
            encoded = self._texts.encode([*request.prompts, *negatives], phrases, stats)
            texts = self._texts.rows(encoded, negatives, request.prompts)
        regions = make_regions([encoded.prompts[text] for text in request.prompts], layouts, self.manifest, options)
        if options.needs_layout:
            spatial = self._spatial.condition(layouts, encoded.phrases, options.guided, stats)
        else:
            spatial = self._spatial.no_condition(len(texts["encoder_hidden_states"]))
        padded = Regions(*(part.to(self.device) for part in pad_regions(regions, self.manifest.max_regions)))
        return Conditions(texts, spatial, padded, most_regions=max(len(placed.regions) for placed in layouts))

    def _decode(self, latents: Tensor, stats: Stats) -> list[Image]:
        with stats.stage("decode"):
            decoded = stats.run(self._runners["vae_decoder"], latents=latents / self.manifest.latent_scale)
            return to_images(decoded["images"])


def _left_out(options: Options, course: Course) -> list[str]:
    """What is said of a run that was to move the coefficients and has no place for it, as with few steps."""
    if options.gradient not in ("exact", "surrogate") or any(work.gradient for work in course.works):
        return []
    return [
        f"no evaluation moves the coefficients: the spatial model alone draws all {len(course.table)}; give a smaller "
        "switch_step"
    ]


def _start_coefficients(given: Tensor | str | None, drawn: Tensor, fixed_weight: float | None) -> Tensor:
    if fixed_weight is not None:  # the softmax of logarithms is the weights themselves
        if given is not None:
            raise RealCompoError(f"gradient='fixed:{fixed_weight:g}' has a constant weight: leave coefficients out")
        return torch.tensor([1 - fixed_weight, fixed_weight]).log()[:, None, None].expand_as(drawn)
    if isinstance(given, Tensor):
        return given
    if given not in (None, *COEFFICIENTS):
        raise RealCompoError(f"coefficients={given!r} is unknown; use {' or '.join(COEFFICIENTS)}, or a tensor")
    return torch.zeros_like(drawn) if given == "equal" else drawn


def _noise(request: Request, seed: int, seeds: Sequence[int] | None) -> Noise:
    if seeds is None:
        return Noise([seeded("seed", seed)], [len(request.prompts)])
    if len(seeds) != len(request.counts):
        raise RealCompoError(f"{len(seeds)} seeds for {len(request.counts)} prompts; give one each")
    return Noise([seeded("seeds", one) for one in seeds], request.counts)


def _shared_coefficients(seed: int, drawn: Tensor) -> Tensor:
    """One pair of maps for all of B images, in place of those drawn. The authors' code draws the spatial one first."""
    generator = seeded("coefficient_seed", seed)
    spatial, text = (torch.randn(drawn.shape[-2:], generator=generator) for _ in range(2))
    return torch.stack([text, spatial]).expand_as(drawn)
