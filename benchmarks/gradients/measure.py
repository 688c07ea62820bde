"""How good is a cheap stand-in for the exact gradient? Losses over whole runs, and directions from the same states."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.eager.realcompo import EagerRealCompo
from benchmarks.figures import as_png, clean
from benchmarks.gradients.shortcuts import shortcut_and_exact
from benchmarks.quality.measure import Sampling, outputs
from benchmarks.tabletop.scenes import Scene
from runtime import RealCompo
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


def losses_over_steps(pipe: RealCompo, scenes: Sequence[Scene], run: Run, sampling: Sampling) -> Losses:
    """The attention loss a region, at each evaluation before its update, as a mean over all regions.

    It is that of both models' maps mixed by their weights, whatever moves the coefficients, so that runs compare.
    """
    traces = [output.trace for output in outputs(pipe, scenes, sampling, trace=True, **run.options)]
    regions = sum(len(scene.things) for scene in scenes)
    return [float(sum(step.loss.sum() for step in evaluation)) / regions for evaluation in zip(*traces, strict=True)]


def agreements(pipe: RealCompo, scenes: Sequence[Scene], sampling: Sampling) -> list[Agreement]:
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


def shortcut_agreement(eager: EagerRealCompo, scenes: Sequence[Scene], sampling: Sampling) -> Agreement:
    """The gradient past all branches beside the exact one, in eager PyTorch."""
    return _compare("past all branches", *shortcut_and_exact(eager, scenes, sampling))


def draw_figure(losses: dict[str, Losses], found: Sequence[Agreement]) -> bytes:
    """A PNG of both: losses over the evaluations, and cosines with the exact gradient."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, values in losses.items():
        left.plot(range(1, len(values) + 1), values, label=name)
    left.set(xlabel="evaluation", title="Attention outside its region (loss a region)")
    last = max(map(len, losses.values()))
    for agreement in found:
        values = agreement.cosine
        right.plot(range(last - len(values) + 1, last + 1), values, label=agreement.name)
    right.axhline(0, color="#8a8a8a", linewidth=0.8)
    right.set(xlabel="evaluation", title="Cosine with the exact gradient", ylim=(-1, 1.05))
    for axes in (left, right):
        clean(axes, "y")
        axes.legend(frameon=False, fontsize=8)
    return as_png(figure)


def _stack_gradients(trace: Sequence[TraceStep]) -> Tensor:
    """[evaluations that update, images, 2hw]."""
    return torch.stack([step.gradient.flatten(1) for step in trace if step.gradient is not None])


def _compare(name: str, stand_in: Tensor, exact: Tensor) -> Agreement:
    cosine = torch.cosine_similarity(stand_in, exact, dim=-1, eps=1e-30)
    ratio = stand_in.norm(dim=-1) / exact.norm(dim=-1)
    return Agreement(name, cosine.median(dim=1).values.tolist(), ratio.median(dim=1).values.tolist())
