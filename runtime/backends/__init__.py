"""What executes engines: one runner per engine, all behind the protocol in `base`."""

import importlib.util
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from runtime.backends.base import Runner
from runtime.backends.devices import CudaDriver, parse_device
from runtime.backends.plans import FLAVOURS, MODULES, Flavour, check_plans, import_flavour, open_library
from runtime.bundle import Manifest, Role
from runtime.errors import RealCompoError
from runtime.streams import Streams

BACKENDS = ("auto", "onnx", "onnx-tensorrt", *FLAVOURS)


@dataclass(frozen=True)
class Engines:
    """A bundle's engines, loaded."""

    runners: Mapping[Role, Runner]
    device: torch.device  # of their tensors
    streams: Streams
    capturable: bool  # whether a CUDA graph can hold their calls


def load_engines(folder: Path, manifest: Manifest, backend: str, device: str, second_stream: bool) -> Engines:
    """Open every engine of a bundle.

    Raises:
        RealCompoError: a backend or device that this runtime or machine has not, or an engine that does not load.
    """
    if backend not in BACKENDS:
        raise RealCompoError(f"backend={backend!r} is unknown; use one of {', '.join(BACKENDS)}")
    flavour = _plans_to_use(folder, manifest, device) if backend == "auto" else _flavour(backend)
    if flavour:
        return _load_plans(folder, manifest, flavour, device, second_stream)
    if second_stream:
        raise RealCompoError(f"second_stream=True takes a TensorRT plan; use one of backend={', '.join(FLAVOURS)}")
    return _load_graphs(folder, manifest, device, tensorrt=backend == "onnx-tensorrt")


def _flavour(name: str) -> Flavour | None:
    return next((flavour for flavour in FLAVOURS if flavour == name), None)


def _plans_to_use(folder: Path, manifest: Manifest, device: str) -> Flavour | None:
    """The flavour of the bundle's plans if they run here. Where all but the plan fits, say why they do not."""
    flavour = _flavour(manifest.backend)
    if flavour is None or device == "cpu" or not torch.cuda.is_available():
        return None
    if importlib.util.find_spec(MODULES[flavour]) is None:
        return None
    try:
        driver = CudaDriver(parse_device(device, "cuda"))
        check_plans(folder, manifest, flavour, import_flavour(flavour).__version__, driver)
    except RealCompoError as error:
        warnings.warn(f"the ONNX graphs run instead of the plans: {error}", stacklevel=4)
        return None
    return flavour


def _load_plans(folder: Path, manifest: Manifest, flavour: Flavour, device: str, second_stream: bool) -> Engines:
    from runtime.backends.tensorrt import load_runners

    chosen = parse_device(device, "cuda")
    module = import_flavour(flavour)
    if chosen.type == "cpu" or not torch.cuda.is_available():
        raise RealCompoError(
            f"backend={flavour!r}, device={device!r}: plans take an NVIDIA GPU and a CUDA build of torch; use "
            "backend='onnx'"
        )
    driver = CudaDriver(chosen)
    check_plans(folder, manifest, flavour, module.__version__, driver)
    library = open_library(flavour, module, driver)
    runners = load_runners(library, folder, manifest, second_stream)
    return Engines(runners, chosen, Streams(chosen, second_stream), capturable=True)


def _load_graphs(folder: Path, manifest: Manifest, device: str, tensorrt: bool) -> Engines:
    try:
        from runtime.backends.onnxruntime import CUDA, TENSORRT, OnnxRuntimeRunner, choose_device
    except ImportError as error:
        raise RealCompoError(f"ONNX Runtime does not load ({error}); pip install 'realcompo[onnxruntime]'") from error
    chosen = choose_device(device, TENSORRT if tensorrt else CUDA)
    if tensorrt and chosen.type == "cpu":
        raise RealCompoError(
            f"backend='onnx-tensorrt', device={device!r}: it takes a GPU and an onnxruntime-gpu with the TensorRT "
            "provider; use backend='onnx'"
        )
    runners = {
        role: OnnxRuntimeRunner(folder, manifest, spec, chosen, tensorrt) for role, spec in manifest.engines.items()
    }
    # ONNX Runtime waits for each call on a stream of its own: streams and graphs of ours would gain nothing
    return Engines(runners, chosen, Streams(torch.device("cpu")), capturable=False)
