"""ONNX file -> TensorRT plan, through Polygraphy. TensorRT-RTX needs no GPU for it, TensorRT builds on its target."""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from export.roles import Signature
from runtime.bundle import FileSpec, PlanSpec, sha256_of
from runtime.errors import RealCompoError

Flavour = Literal["tensorrt-rtx", "tensorrt"]
Profile = dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]

# No 7.5: TensorRT-RTX has no fp32 matrix product for it.
COMPUTE_CAPABILITIES = ("8.0", "8.6", "8.9", "12.0", "12.1")
FLAGS = {"strongly_typed": True, "tf32": False}  # fp32 means fp32; speed comes from fp16
_MODULES = {"tensorrt-rtx": "tensorrt_rtx", "tensorrt": "tensorrt"}
_PACKAGES = {"tensorrt-rtx": "tensorrt-rtx-cu12", "tensorrt": "tensorrt"}


@dataclass(frozen=True)
class PlanOptions:
    """What a plan depends on besides its graph."""

    flavour: Flavour
    version: str
    compute_capabilities: tuple[str, ...]
    batch: tuple[int, int, int]  # min, opt, max rows


def plan_options(flavour: Flavour, compute_capabilities: tuple[str, ...], batch: tuple[int, int, int]) -> PlanOptions:
    """Check what was asked against what can be built.

    Raises:
        RealCompoError: TensorRT of this flavour is not installed, or a compute capability it cannot build for.
    """
    module, package = _MODULES[flavour], _PACKAGES[flavour]
    if importlib.util.find_spec(module) is None:
        hint = "" if flavour == "tensorrt-rtx" else "; it needs an NVIDIA GPU (--backend tensorrt-rtx does not)"
        raise RealCompoError(f"--backend {flavour} needs the Python package {package}: pip install {package}{hint}")
    if flavour == "tensorrt":
        if compute_capabilities:
            raise RealCompoError("--compute-capability is for --backend tensorrt-rtx; tensorrt builds for its own GPU")
    elif unknown := sorted(set(compute_capabilities) - set(COMPUTE_CAPABILITIES)):
        raise RealCompoError(
            f"--compute-capability {unknown[0]} cannot be built for in fp32; known: {', '.join(COMPUTE_CAPABILITIES)}"
        )
    else:
        asked = set(compute_capabilities or COMPUTE_CAPABILITIES)
        compute_capabilities = tuple(capability for capability in COMPUTE_CAPABILITIES if capability in asked)
    return PlanOptions(flavour, _version(module), compute_capabilities, batch)


def build_plan(onnx: Path, signature: Signature, options: PlanOptions, path: Path) -> PlanSpec:
    """Build the plan of a graph and write it to `path`.

    Raises:
        RealCompoError: TensorRT rejects the graph; its own messages stand above on the terminal.
    """
    profile = _profile(signature, options.batch)
    plan = _serialize(onnx, profile, options)
    path.write_bytes(plan)
    return PlanSpec(
        file=FileSpec(name=path.name, sha256=sha256_of(path)),
        flavour=options.flavour,
        version=options.version,
        compute_capabilities=options.compute_capabilities,
        flags=FLAGS,
        profile=profile,
    )


def _serialize(onnx: Path, profile: Profile, options: PlanOptions) -> memoryview:
    from polygraphy import config as polygraphy_config

    polygraphy_config.USE_TENSORRT_RTX = options.flavour == "tensorrt-rtx"  # read when the next line imports
    from polygraphy.backend.trt import engine_bytes_from_network, network_from_onnx_path
    from polygraphy.exception import PolygraphyException
    from polygraphy.logger import G_LOGGER

    try:
        with G_LOGGER.verbosity(G_LOGGER.ERROR):
            network = network_from_onnx_path(str(onnx), strongly_typed=FLAGS["strongly_typed"])
            return memoryview(engine_bytes_from_network(network, config=_config(profile, options)))
    except PolygraphyException as error:
        raise RealCompoError(f"{options.flavour} {options.version} cannot build {onnx.name}: {error}") from error


def _config(profile: Profile, options: PlanOptions) -> Callable[..., Any]:
    from polygraphy.backend.trt import CreateConfig
    from polygraphy.backend.trt import Profile as PolygraphyProfile

    shapes = PolygraphyProfile()
    for name, (smallest, usual, largest) in profile.items():
        shapes.add(name, min=smallest, opt=usual, max=largest)
    if options.flavour == "tensorrt":
        return CreateConfig(profiles=[shapes], tf32=FLAGS["tf32"])
    return _rtx_config(shapes, options.compute_capabilities)


def _rtx_config(profile: Any, compute_capabilities: tuple[str, ...]) -> Callable[..., Any]:
    import tensorrt_rtx
    from polygraphy import func
    from polygraphy.backend.tensorrt_rtx import CreateConfigRTX

    targets = [tuple(map(int, capability.split("."))) for capability in compute_capabilities]

    def clear_tf32(config: Any) -> None:
        config.clear_flag(tensorrt_rtx.BuilderFlag.TF32)

    create: Callable[..., Any] = func.extend(CreateConfigRTX(profiles=[profile], compute_capabilities=targets))(
        clear_tf32
    )
    return create


def _profile(signature: Signature, batch: tuple[int, int, int]) -> Profile:
    smallest, usual, largest = batch
    fixed = {tensor.name: tuple(int(size) for size in tensor.shape[1:]) for tensor in signature.inputs}
    return {name: ((smallest, *shape), (usual, *shape), (largest, *shape)) for name, shape in fixed.items()}


def _version(module: str) -> str:
    return str(importlib.import_module(module).__version__)
