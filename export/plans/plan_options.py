"""What a plan is built with, and what each flavour of TensorRT can be asked for."""

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import torch

from export.graphs.engine import Rows
from runtime.errors import RealCompoError
from runtime.words import FLAVOUR_MODULES, Flavour

# No 7.5: TensorRT-RTX has no fp32 matrix product for it.
COMPUTE_CAPABILITIES = ("8.0", "8.6", "8.9", "12.0", "12.1")
FLAGS: dict[str, bool | int] = {"strongly_typed": True, "tf32": False}  # fp32 means fp32; speed comes from fp16
_PACKAGES: dict[Flavour, str] = {"tensorrt-rtx": "tensorrt-rtx-cu12", "tensorrt": "tensorrt"}
_NOT_IN_RTX = {
    "optimization_level": "it chooses kernels when it runs, whatever the level",
    "version_compatible": "its package has no lean runtime to put into a plan",
    "timing_cache": "it times nothing when it builds",
}


@dataclass(frozen=True)
class BuilderOptions:
    """What a user may ask TensorRT's builder for."""

    optimization_level: int | None = None  # 0 builds fastest, 5 searches longest; None is TensorRT's own, 3
    refit: bool = False  # weights can be replaced without building again
    strip_weights: bool = False  # the plan has no weights; the runtime takes them from the ONNX file
    version_compatible: bool = False  # the plan runs in later versions of TensorRT too
    timing_cache: Path | None = None  # how long kernels took, kept from build to build; no part of what a plan is

    def given(self) -> dict[str, bool | int | Path]:
        """Those that were asked for."""
        return {name: value for name, value in asdict(self).items() if value is not None and value is not False}

    @classmethod
    def of_flags(cls, flags: Mapping[str, bool | int]) -> Self:
        """What was asked for where a plan's manifest entry records these."""
        return cls(**{name: value for name, value in flags.items() if name not in FLAGS})  # type: ignore[arg-type]

    def flags(self) -> dict[str, bool | int]:
        """What a plan's manifest entry records."""
        return FLAGS | {name: value for name, value in self.given().items() if not isinstance(value, Path)}


TENSORRTS_OWN = BuilderOptions()


@dataclass(frozen=True)
class PlanOptions:
    """What a plan depends on besides its graph."""

    flavour: Flavour
    version: str
    compute_capabilities: tuple[str, ...]
    gpu: str | None  # that TensorRT builds on and for; None for TensorRT-RTX, which needs none
    batch: Rows  # of the UNets
    builder: BuilderOptions


def plan_options(
    flavour: Flavour, compute_capabilities: tuple[str, ...], batch: Rows, builder: BuilderOptions = TENSORRTS_OWN
) -> PlanOptions:
    """Check what was asked against what can be built.

    Raises:
        RealCompoError: TensorRT of this flavour is not installed, does not know an option or needs a GPU for it, or
            cannot build for a compute capability.
    """
    module = FLAVOUR_MODULES[flavour]
    if importlib.util.find_spec(module) is None:
        hint = "" if flavour == "tensorrt-rtx" else "; it needs an NVIDIA GPU (--backend tensorrt-rtx does not)"
        package = _PACKAGES[flavour]
        raise RealCompoError(f"--backend {flavour} needs the Python package {package}: pip install {package}{hint}")
    _check_level(builder.optimization_level)
    version = str(importlib.import_module(module).__version__)
    if flavour == "tensorrt":
        gpu, capability = _building_gpu(compute_capabilities)
        return PlanOptions(flavour, version, (capability,), gpu, batch, builder)
    _check_for_rtx(builder)
    return PlanOptions(flavour, version, _known(compute_capabilities), None, batch, builder)


def _check_level(level: int | None) -> None:
    if level is not None and not 0 <= level <= 5:
        raise RealCompoError(f"--optimization-level {level} is not between 0 and 5")


def _check_for_rtx(builder: BuilderOptions) -> None:
    for name in builder.given():
        if name in _NOT_IN_RTX:
            raise RealCompoError(f"{option_name(name)} is for --backend tensorrt; tensorrt-rtx: {_NOT_IN_RTX[name]}")
        if not torch.cuda.is_available():
            raise RealCompoError(
                f"{option_name(name)} with --backend tensorrt-rtx needs an NVIDIA GPU where the plan is built, and "
                "PyTorch sees none; leave the option out or build on a machine with a GPU"
            )


def _building_gpu(compute_capabilities: tuple[str, ...]) -> tuple[str, str]:
    """Name and compute capability of the GPU that TensorRT builds on."""
    if compute_capabilities:
        raise RealCompoError("--compute-capability is for --backend tensorrt-rtx; tensorrt builds for its own GPU")
    if not torch.cuda.is_available():
        raise RealCompoError(
            "--backend tensorrt builds on the GPU that its plans are for, and PyTorch sees none; "
            "--backend tensorrt-rtx builds without one"
        )
    major, minor = torch.cuda.get_device_capability()
    return torch.cuda.get_device_name(), f"{major}.{minor}"


def _known(compute_capabilities: tuple[str, ...]) -> tuple[str, ...]:
    """In their own order, each once; all of them if none was asked for."""
    if unknown := sorted(set(compute_capabilities) - set(COMPUTE_CAPABILITIES)):
        raise RealCompoError(
            f"--compute-capability {unknown[0]} cannot be built for in fp32; known: {', '.join(COMPUTE_CAPABILITIES)}"
        )
    asked = set(compute_capabilities or COMPUTE_CAPABILITIES)
    return tuple(capability for capability in COMPUTE_CAPABILITIES if capability in asked)


def option_name(name: str) -> str:
    """On the command line."""
    return f"--{name.replace('_', '-')}"
