"""A run: evaluations one after the other, on tensors that stay where they are, as CUDA graphs where there are any."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from runtime.backends import Engines
from runtime.bundle.manifest import Manifest
from runtime.denoising.balancer import fusing_weights
from runtime.denoising.capture import Graphs, TorchGraph
from runtime.denoising.evaluation import Change, Evaluation, State, evaluate, start_state
from runtime.denoising.models import Conditions, Models
from runtime.denoising.noise import Noise
from runtime.denoising.numbers import Numbers
from runtime.errors import RealCompoError
from runtime.options import Work
from runtime.output import TraceStep
from runtime.sampling.tables import Table
from runtime.stats import Stats

Callback = Callable[[int, int, Tensor, Tensor], Sequence[int] | None]
Tell = Callable[[TraceStep], None]


@dataclass(frozen=True)
class Course:
    """What each evaluation of a run does, and with which numbers."""

    table: Table
    works: list[Work]
    numbers: Numbers


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


class Denoiser:
    """Carries latents and coefficients over a run."""

    def __init__(self, manifest: Manifest, engines: Engines) -> None:
        self._engines = engines
        self._shared_unet = manifest.shared_unet
        self._map_resolution = manifest.maps.resolution
        self._make_graph = TorchGraph if engines.capturable else None
        self._workspaces: dict[tuple[torch.Size, ...], Workspace] = {}

    def run(
        self,
        course: Course,
        latents: Tensor,
        coefficients: Tensor,
        conditions: Conditions,
        noise: Noise,
        stats: Stats,
        tell: Tell | None,
        callback: Callback | None,
        change: Change | None = None,
    ) -> Tensor:
        """The final latents (B,4,h,w) of the images that the callback kept.

        Args:
            latents: (B,4,h,w) to start from, as drawn from N(0, 1).
            coefficients: (B,2,h,w) to start from, text-to-image first.
            noise: of all B images, also of those that are no longer kept; for samplers that add fresh noise.
            tell: is told what the balancer saw.
            change: of the coefficients' gradient.
        """
        start = start_state(latents * course.table.start, coefficients, course.numbers.at(0))
        workspace = self._workspace(start, conditions)
        kept, traced = list(range(len(latents))), tell is not None
        with stats.stage("denoise"):
            for i, (step, work) in enumerate(zip(course.table, course.works, strict=True)):
                state = workspace.state
                state.numbers.become(course.numbers.at(i))
                if step.fresh:
                    state.fresh.copy_(noise.draw(*latents.shape[1:])[kept])
                piece = partial(self._evaluate, workspace, work, traced, change)
                evaluation = workspace.graphs.run((work, traced, change), piece)
                stats.add(evaluation.stats)
                if tell:
                    tell(_trace_step(step.timestep, workspace, work, evaluation))
                if callback:
                    chosen = callback(i + 1, len(course.table), state.latents.clone(), state.coefficients.clone())
                    if chosen is not None:
                        workspace = self._narrow(workspace, chosen)
                        kept = [kept[image] for image in chosen]
            skipped = int(workspace.state.skipped)  # asking earlier would make every step wait for the GPU
        stats.updates = sum(work.gradient is not None for work in course.works)
        _warn_of_skipped(stats, skipped)
        return workspace.state.latents.clone()

    def models(self, conditions: Conditions) -> Models:
        """Both models, told of these conditions."""
        return Models(self._engines.runners, conditions, self._engines.streams, self._shared_unet)

    def _workspace(self, state: State, conditions: Conditions) -> Workspace:
        """Where a run with this start works: the place of an earlier one of its size, if CUDA graphs know that."""
        if self._make_graph is None:
            return Workspace(state, conditions, Graphs(None))
        key = tuple(tensor.shape for tensor in (*state.tensors(), *conditions.tensors()))
        if key not in self._workspaces:
            self._workspaces[key] = Workspace(state, conditions, Graphs(self._make_graph))
        self._workspaces[key].begin(state, conditions)
        return self._workspaces[key]

    def _narrow(self, workspace: Workspace, images: Sequence[int]) -> Workspace:
        """Where the run goes on with these of its images alone."""
        if not images:
            raise RealCompoError("the callback keeps no image; to end a run, raise an exception of your own")
        return self._workspace(workspace.state.keep(images), workspace.conditions.keep(images))

    def _evaluate(self, workspace: Workspace, work: Work, trace: bool, change: Change | None) -> Evaluation:
        return evaluate(self.models(workspace.conditions), workspace.state, work, self._map_resolution, trace, change)


def _warn_of_skipped(stats: Stats, count: int) -> None:
    """Said once a run, and after it."""
    stats.skipped_updates = count
    if count:
        warnings.warn(
            f"{count} updates of the coefficients were left out because their gradient was not finite; if there are "
            "many, build the bundle with --precision fp32 or bf16",
            stacklevel=4,
        )


def _trace_step(timestep: float, workspace: Workspace, work: Work, evaluation: Evaluation) -> TraceStep:
    """A copy of what the next evaluation will write over."""
    assert evaluation.attention is not None  # it is traced
    loss, region_maps = evaluation.attention
    coefficients, gradient = workspace.state.coefficients.clone(), evaluation.gradient
    return TraceStep(
        timestep,
        loss.clone(),
        region_maps[:, : workspace.conditions.most_regions].clone(),
        coefficients,
        _spatial_weight(work, coefficients),
        None if gradient is None else gradient.clone(),
    )


def _spatial_weight(work: Work, coefficients: Tensor) -> Tensor:
    """How much of the spatial model went into each pixel: (B,h,w)."""
    if len(work.models) == 2:
        return fusing_weights(coefficients)[:, 1]
    return torch.full_like(coefficients[:, 1], float("spatial" in work.models))
