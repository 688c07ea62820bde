"""How good is a cheap stand-in for the exact gradient? Losses over whole runs, and directions from the same states."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.drawing import SceneSampling, outputs
from benchmarks.eager.realcompo import EagerRealCompo
from benchmarks.gradients.shortcuts import shortcut_and_exact
from benchmarks.tabletop.scenes import Scene, held_out_scenes
from export.pairs import Control
from export.spatial import KINDS
from runtime import RealCompo
from runtime.bundle.manifest import Manifest
from runtime.output import TraceStep

Losses = list[float]  # one an evaluation
STALENESS = (1, 2, 4)  # evaluations since the gradient that is used again was computed


@dataclass(frozen=True)
class Run:
    """A line of the plot."""

    name: str
    options: dict[str, Any]


RUNS = (
    Run("none", {"gradient": "none"}),
    Run("surrogate", {"gradient": "surrogate"}),
    Run("exact", {"gradient": "exact"}),
    Run("exact, every 2nd", {"gradient": "exact", "update_every": 2}),
    Run("exact, every 4th", {"gradient": "exact", "update_every": 4}),
)


@dataclass(frozen=True)
class Agreement:
    """A stand-in beside the exact gradient: one value for each evaluation that updates, medians over images."""

    name: str
    cosine: list[float]
    norm_ratio: list[float]  # |stand-in| / |exact|


def measure(
    bundle: Path, count: int, sampling: SceneSampling, report: Callable[[str], None] = lambda what: None
) -> dict[str, Any]:
    """The fields of the JSON result, from `count` held-out scenes.

    Raises:
        RealCompoError: the bundle does not load, or its checkpoints are not here.
    """
    pipe, scenes, losses = RealCompo.load(bundle), held_out_scenes(count), {}
    for run in RUNS:
        report(f"losses: {run.name}")
        losses[run.name] = losses_over_steps(pipe, scenes, run, sampling)
    report("directions")
    found = agreements(pipe, scenes, sampling)
    report("directions past all branches, in eager PyTorch")
    found.append(shortcut_agreement(open_eager(bundle, pipe.manifest), scenes, sampling))
    return {"scenes": count, **asdict(sampling), "losses": losses, "agreement": list(map(asdict, found))}


def open_eager(bundle: Path, manifest: Manifest) -> EagerRealCompo:
    """The pair of a bundle in eager PyTorch, at the bundle's size."""
    pair = manifest.pair
    attached = zip(manifest.spatial.controls, (model.place(bundle) for model in pair.attached), strict=True)
    component = KINDS[manifest.spatial.kind].component
    return EagerRealCompo.load(
        pair.text_to_image.place(bundle),
        pair.spatial.place(bundle),
        controls=[Control(kind, place, component) for kind, place in attached],
        latent_size=manifest.latent_shape[1:],
    )


def losses_over_steps(pipe: RealCompo, scenes: Sequence[Scene], run: Run, sampling: SceneSampling) -> Losses:
    """The attention loss a region, at each evaluation before its update, as a mean over all regions.

    It is that of both models' maps mixed by their weights, whatever moves the coefficients, so that runs compare.
    """
    traces = [output.trace for output in outputs(pipe, scenes, sampling, trace=True, **run.options)]
    regions = sum(len(scene.things) for scene in scenes)
    return [float(sum(step.loss.sum() for step in evaluation)) / regions for evaluation in zip(*traces, strict=True)]


def agreements(pipe: RealCompo, scenes: Sequence[Scene], sampling: SceneSampling) -> list[Agreement]:
    """Each stand-in's gradient beside the exact one, both from the states of a run whose coefficients stay."""
    still = replace(sampling, coefficient_scale=0.0)

    def gradients(**options: Any) -> Tensor:
        traced = outputs(pipe, scenes, still, trace=True, **options)
        return torch.cat([_stack_gradients(output.trace) for output in traced], dim=1)  # [evaluations, images, 2hw]

    exact = gradients(gradient="exact")
    found = {
        "surrogate": gradients(gradient="surrogate"),
        "spatial maps alone": gradients(gradient="exact", gradient_from=("spatial",)),
        "text-to-image maps alone": gradients(gradient="exact", gradient_from=("text_to_image",)),
    }
    stale = [
        _compare(f"exact, {age} evaluations old", exact[:-age], exact[age:]) for age in STALENESS if age < len(exact)
    ]
    return [*(_compare(name, gradient, exact) for name, gradient in found.items()), *stale]


def shortcut_agreement(eager: EagerRealCompo, scenes: Sequence[Scene], sampling: SceneSampling) -> Agreement:
    """The gradient past all branches beside the exact one, in eager PyTorch."""
    return _compare("past all branches", *shortcut_and_exact(eager, scenes, sampling))


def _stack_gradients(trace: Sequence[TraceStep]) -> Tensor:
    """[evaluations that update, images, 2hw]."""
    return torch.stack([step.gradient.flatten(1) for step in trace if step.gradient is not None])


def _compare(name: str, stand_in: Tensor, exact: Tensor) -> Agreement:
    cosine = torch.cosine_similarity(stand_in, exact, dim=-1, eps=1e-30)
    ratio = stand_in.norm(dim=-1) / exact.norm(dim=-1)
    return Agreement(name, cosine.median(dim=1).values.tolist(), ratio.median(dim=1).values.tolist())
