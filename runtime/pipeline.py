"""RealCompo (arXiv 2402.12908): one denoising run over two models, balanced per pixel."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from PIL.Image import Image
from torch import Tensor

from runtime.backends import Engines, load_engines
from runtime.bundle.manifest import Manifest, check_files, how_to_rebuild, needed_roles, read_manifest
from runtime.denoising.balancer import Regions, fusing_weights
from runtime.denoising.capture import Graphs, TorchGraph
from runtime.denoising.evaluation import Evaluation, State, evaluate, start_state
from runtime.denoising.models import Conditions, Models
from runtime.denoising.rows import Row, make_rows
from runtime.errors import RealCompoError
from runtime.layouts.layout import Layout
from runtime.options import BOTH, Kind, Model, Options, check_count
from runtime.output import Output, Stats, TraceStep, to_images
from runtime.request import Request, make_regions, make_request, pad_regions
from runtime.sampling.tables import Step, make_table
from runtime.spatial.controlnets import ControlNets
from runtime.spatial.gligen import Gligen
from runtime.spatial.kind import PerControl, SpatialModel, Strengths
from runtime.text.encoder import TextEncoder
from runtime.text.tokens import PromptEncoder, open_tokenizers

Callback = Callable[[int, int, Tensor, Tensor], None]


@dataclass(frozen=True)
class Workspace:
    """The tensors that evaluations of one size work on, and the CUDA graphs that know their addresses."""

    state: State
    conditions: Conditions
    graphs: Graphs[Evaluation]

    def begin(self, state: State, conditions: Conditions) -> None:
        """Take over another run's start, in place."""
        for own, other in zip(self.tensors(), (*state.tensors(), *conditions.tensors()), strict=True):
            own.copy_(other)

    def tensors(self) -> list[Tensor]:
        return [*self.state.tensors(), *self.conditions.tensors()]


@dataclass(frozen=True)
class Run:
    """What does not change from row to row of the table."""

    workspace: Workspace
    table: tuple[Step, ...]
    rows: Row
    options: Options
    regions: int  # the most of any image
    stats: Stats


class RealCompo:
    """A loaded bundle, ready to draw. Not for use from several threads at once: engines reuse their buffers."""

    def __init__(self, manifest: Manifest, tokenizers: Sequence[PromptEncoder], engines: Engines) -> None:
        self.manifest = manifest
        self.device = engines.device
        self._texts = TextEncoder(manifest, tokenizers, engines.runners["text_encoder"], engines.device)
        self._runners = engines.runners
        self._streams = engines.streams
        self._make_graph = TorchGraph if engines.capturable else None
        self._spatial = _spatial_model(manifest, engines)
        self._workspaces: dict[tuple[torch.Size, ...], Workspace] = {}

    @classmethod
    def load(
        cls,
        path: Path | str,
        backend: str = "auto",
        device: str = "auto",
        verify: bool = True,
        second_stream: bool = False,
    ) -> "RealCompo":
        """Open the bundle in a folder.

        Args:
            path: the folder that `python -m export build` wrote.
            backend: `onnx`: ONNX Runtime on the CPU or a GPU; `onnx-tensorrt`: the same through its TensorRT provider,
                which builds its own engines when they are first loaded; `tensorrt-rtx` or `tensorrt`: the bundle's
                plans; `auto`: the plans if there are any and they run here, or else `onnx`.
            device: `auto`, `cpu`, `cuda` or `cuda:N`.
            verify: check every file's hash first; without, a damaged file may go unnoticed.
            second_stream: run both models' plans side by side. It takes more memory and pays where one model alone does
                not fill the GPU.

        Raises:
            RealCompoError: not a bundle, a damaged one, or one that this machine cannot run.
        """
        folder = Path(path)
        manifest = read_manifest(folder)
        if absent := [
            role for role in needed_roles(manifest.shared_unet, bool(manifest.controls)) if role not in manifest.engines
        ]:
            raise RealCompoError(f"{folder} has no {', '.join(absent)} engine. {how_to_rebuild(folder, manifest)}")
        if verify:
            check_files(folder, manifest)
        tokenizers = open_tokenizers(folder, manifest)
        return cls(manifest, tokenizers, load_engines(folder, manifest, backend, device, second_stream))

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
        control_scale: PerControl = 1.0,
        control_start: PerControl = 0.0,
        control_end: PerControl = 1.0,
    ) -> Output:
        """Draw B = prompts * num_images images of (H,W) = `manifest.image_size`.

        Args:
            prompt: one, or a list for a batch.
            layout: where the objects belong; one for all images, or a list with one for each prompt or each image.
                Only `gradient="text_to_image"` does without; it shows one to the trace alone.
            negative_prompt: what to steer away from; one, or one for each prompt. An empty one is zeros to an SDXL that
                was trained so, as diffusers has it where none is given.
            steps: denoising steps; `plms` evaluates the models once more.
            guidance_scale: of classifier-free guidance; 1 or less leaves the unconditional rows out.
            switch_step: the evaluations before this one use the spatial model alone; None is 0.4 of the steps with
                GLIGEN, and 0 with ControlNets.
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
            control_scale: what ControlNets add is multiplied by it; one for all, or one for each, in the order of
                `manifest.controls`.
            control_start: the share of the evaluations after which ControlNets come in; one, or one each.
            control_end: the share of the evaluations after which they stay out; one, or one each.

        Raises:
            RealCompoError: an argument out of its range, or a layout that does not fit the prompt or the bundle.
        """
        check_count("num_images", num_images)
        table = make_table(sampler, steps, self.manifest.scheduler)
        switch_step = self._spatial.switch_step(steps) if switch_step is None else switch_step
        options = Options(
            rows=len(table),
            gradient=gradient,
            guidance_scale=guidance_scale,
            switch_step=switch_step,
            coefficient_scale=coefficient_scale,
            update_every=update_every,
            gradient_from=tuple(gradient_from),
            trial_guidance=trial_guidance,
        )
        if layout is None and options.needs_layout:
            raise RealCompoError(f"gradient={gradient!r} needs a layout; only gradient='text_to_image' does without")
        request, stats = make_request(prompt, negative_prompt, layout, num_images), Stats()
        strengths = Strengths(grounding_fraction, control_scale, control_start, control_end)
        rows = make_rows(table, options, self._spatial.scales(strengths, len(table)), self.device)
        with self._streams.own():
            start = start_state(*self._draw(len(request.prompts), seed, latents, coefficients, options), rows.at(0))
            workspace = self._workspace(start, self._prepare(request, options, stats))
            most = max(len(placed.regions) for placed in request.layouts)
            seen = self._denoise(Run(workspace, table, rows, options, most, stats), trace, callback)
            final = workspace.state.latents.clone()
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

    def _prepare(self, request: Request, options: Options, stats: Stats) -> Conditions:
        """What the models are told at every step."""
        layouts = request.layouts
        with stats.stage("text"):
            negatives = request.negative_prompts if options.guided else ()
            phrases = self._spatial.phrases(layouts) if options.needs_layout else []
            encoded = self._texts.encode([*request.prompts, *negatives], phrases, stats)
            texts = self._texts.rows(encoded, negatives, request.prompts)
        regions = make_regions([encoded.prompts[text] for text in request.prompts], layouts, self.manifest)
        if options.needs_layout:
            spatial = self._spatial.condition(layouts, encoded.pooled, options.guided, stats)
        else:
            spatial = self._spatial.no_condition(len(texts["encoder_hidden_states"]))
        padded = Regions(*(part.to(self.device) for part in pad_regions(regions, self.manifest.max_regions)))
        return Conditions(texts, spatial, padded)

    def _workspace(self, state: State, conditions: Conditions) -> Workspace:
        """Where a run with this start works: the place of an earlier one of its size, if CUDA graphs know that."""
        if self._make_graph is None:
            return Workspace(state, conditions, Graphs(None))
        key = tuple(tensor.shape for tensor in (*state.tensors(), *conditions.tensors()))
        if key not in self._workspaces:
            self._workspaces[key] = Workspace(state, conditions, Graphs(self._make_graph))
        self._workspaces[key].begin(state, conditions)
        return self._workspaces[key]

    def _denoise(self, run: Run, trace: bool, callback: Callback | None) -> list[TraceStep]:
        """Carry the state over all rows; the trace if asked for."""
        state, seen = run.workspace.state, []
        with run.stats.stage("denoise"):
            for i, step in enumerate(run.table):
                state.row.become(run.rows.at(i))
                kind = run.options.kind(i)
                evaluation = run.workspace.graphs.run((kind, trace), partial(self._evaluate, run, kind, trace))
                run.stats.add(evaluation.stats)
                if trace:
                    seen.append(_trace_step(step, run, kind, evaluation))
                if callback:
                    callback(i + 1, len(run.table), state.latents.clone(), state.coefficients.clone())
            skipped = int(state.skipped)  # asking earlier would make every step wait for the GPU
        _warn_of_skipped(run.stats, skipped)
        return seen

    def _evaluate(self, run: Run, kind: Kind, trace: bool) -> Evaluation:
        models = Models(self._runners, run.workspace.conditions, self._streams, self.manifest.shared_unet)
        return evaluate(models, run.workspace.state, kind, self.manifest.maps.resolution, trace)

    def _decode(self, latents: Tensor, stats: Stats) -> list[Image]:
        with stats.stage("decode"):
            decoded = stats.run(self._runners["vae_decoder"], latents=latents / self.manifest.latent_scale)
            return to_images(decoded["images"])


def _spatial_model(manifest: Manifest, engines: Engines) -> SpatialModel:
    if manifest.controls:
        return ControlNets(manifest, engines.device)
    return Gligen(manifest, engines.runners, engines.device)


def _seeded(seed: int) -> torch.Generator:
    try:
        return torch.Generator().manual_seed(seed)
    except (RuntimeError, ValueError) as error:
        raise RealCompoError(f"seed={seed} is out of range; use 0 to {2**63 - 1}") from error


def _warn_of_skipped(stats: Stats, count: int) -> None:
    """Said once a run, and after it."""
    stats.skipped_updates = count
    if count:
        warnings.warn(
            f"{count} updates of the coefficients were left out because their gradient was not finite; if there are "
            "many, build the bundle with --precision fp32 or bf16",
            stacklevel=4,
        )


def _trace_step(step: Step, run: Run, kind: Kind, evaluation: Evaluation) -> TraceStep:
    """A copy of what the next evaluation will write over."""
    assert evaluation.attention is not None  # it is traced
    loss, region_maps = evaluation.attention
    coefficients, gradient = run.workspace.state.coefficients.clone(), evaluation.gradient
    return TraceStep(
        step.timestep,
        loss.clone(),
        region_maps[:, : run.regions].clone(),
        coefficients,
        _spatial_weight(kind, coefficients),
        None if gradient is None else gradient.clone(),
    )


def _spatial_weight(kind: Kind, coefficients: Tensor) -> Tensor:
    """How much of the spatial model went into each pixel: (B,h,w)."""
    if len(kind.models) == 2:
        return fusing_weights(coefficients)[:, 1]
    return torch.full_like(coefficients[:, 1], float("spatial" in kind.models))
