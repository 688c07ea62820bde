"""Which engines a bundle calls for an image, and with how many rows: its pipeline says, at work with engines that
compute nothing."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from runtime import Layout, RealCompo, Region
from runtime.backends import Engines
from runtime.backends.base import ELEMENT_TYPES, check_inputs, output_shape
from runtime.backends.streams import Streams
from runtime.bundle.manifest import EngineSpec, read_manifest
from runtime.runner import Runner
from runtime.text.tokens import open_tokenizers
from runtime.words import Role

CPU = torch.device("cpu")
BODY = ((0.25, 0.25), (0.75, 0.75)) * 9  # as many points as OpenPose has of a person


class Call(NamedTuple):
    role: Role
    rows: int


class Step(NamedTuple):
    calls: list[Call]
    updates: bool  # whether the coefficients move


class Rehearsal(NamedTuple):
    once: list[Call]  # before and after the steps
    steps: list[Step]

    @property
    def calls(self) -> list[Call]:
        """All of them."""
        return [*self.once, *(call for step in self.steps for call in step.calls)]


def rehearse(bundle: Path, images: int = 1, regions: int = 2, **options: Any) -> Rehearsal:
    """A run for `images` of one prompt, whose layout has `regions`.

    Args:
        options: more of what `RealCompo.__call__` takes.

    Raises:
        RealCompoError: not a bundle, or an option that the pipeline refuses.
    """
    log = _Log()
    pipe = _open(bundle, log)
    told = {"layout": any_layout(regions), "num_images": images, "trace": True, "callback": log.end_step, **options}
    with warnings.catch_warnings(action="ignore"):  # of words, for no picture is made of them
        trace = pipe("a prompt", **told).trace
    updates = [step.gradient is not None for step in trace]
    return Rehearsal(log.once, [Step(*step) for step in zip(log.steps, updates, strict=False)])


@dataclass(frozen=True)
class _Log:
    once: list[Call] = field(default_factory=list)
    steps: list[list[Call]] = field(default_factory=lambda: [[]])

    def note(self, spec: EngineSpec, rows: int) -> None:
        calls = self.steps[-1] if spec.model else self.once
        calls.append(Call(spec.role, rows))

    def end_step(self, *_: object) -> None:
        self.steps.append([])


@dataclass
class _StandIn:
    """A runner whose outputs are ones."""

    spec: EngineSpec
    log: _Log
    most_rows = None

    def __call__(self, **tensors: Tensor) -> dict[str, Tensor]:
        sizes = check_inputs(self.spec, tensors)
        self.log.note(self.spec, len(next(iter(tensors.values()))))
        return {
            made.name: torch.ones((), dtype=ELEMENT_TYPES[made.dtype].torch).expand(output_shape(made, sizes))
            for made in self.spec.outputs
        }


def _open(bundle: Path, log: _Log) -> RealCompo:
    manifest = read_manifest(bundle)
    runners: dict[Role, Runner] = {role: _StandIn(spec, log) for role, spec in manifest.engines.items()}
    engines = Engines(runners, CPU, Streams(CPU, second=False), capturable=False, kernels="cpu")
    return RealCompo(manifest, open_tokenizers(bundle, manifest), engines)


def any_layout(regions: int) -> Layout:
    """One that every kind of spatial model can be shown."""
    placed = [Region(f"object {i}", keypoints=BODY, tokens=(1,)) for i in range(regions)]
    return Layout(placed, segmentation=np.zeros((8, 8), np.uint8), depth=np.zeros((8, 8), np.float32))
