"""What executes engines: one runner per engine, all behind the protocol in `base`."""

import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from runtime.backends.devices import CudaDriver, parse_device
from runtime.backends.halves import HalvedRunner
from runtime.backends.opened import Opened
from runtime.backends.plans import check_plans, import_flavour, installed_module, is_lean, open_library
from runtime.backends.streams import Streams
from runtime.bundle.manifest import EngineSpec, Manifest
from runtime.errors import RealCompoError
from runtime.runner import Runner
from runtime.words import FLAVOURS, Flavour, Kernels, Role

if TYPE_CHECKING:
    from runtime.backends.onnxruntime import OnnxRuntimeRunner

BACKENDS = ("auto", "onnx", "onnx-tensorrt", *FLAVOURS)


@dataclass(frozen=True)
class Engines:
    """A bundle's engines: each is loaded when it is first asked for."""

    runners: dict[Role, Runner]
    device: torch.device  # of their tensors
    streams: Streams
    capturable: bool  # whether a CUDA graph can hold their calls
    kernels: Kernels

    def open(self, roles: Iterable[Role]) -> None:
        """Load these, as far as they are not.

        Raises:
            RealCompoError: one is left out, or does not load.
        """
        for role in roles:
            _ = self.runners[role]


def load_engines(
    folder: Path,
    manifest: Manifest,
    backend: str,
    device: str,
    second_stream: bool,
    roles: Collection[Role] | None = None,
) -> Engines:
    """The engines of a bundle, ready to be opened.

    Args:
        roles: those that may be; without, all may be.

    Raises:
        RealCompoError: a backend or device that this runtime or machine has not.
    """
    if backend not in BACKENDS:
        raise RealCompoError(f"backend={backend!r} is unknown; use one of {', '.join(BACKENDS)}")
    specs = [spec for role, spec in manifest.engines.items() if roles is None or role in roles]
    flavour = _plans_to_use(folder, manifest, device) if backend == "auto" else _flavour(backend)
    if flavour:
        return _load_plans(folder, manifest, flavour, device, second_stream, specs)
    return _load_graphs(folder, manifest, device, backend == "onnx-tensorrt", second_stream, specs)


def _flavour(name: str) -> Flavour | None:
    return next((flavour for flavour in FLAVOURS if flavour == name), None)


def _plans_to_use(folder: Path, manifest: Manifest, device: str) -> Flavour | None:
    """The flavour of the bundle's plans if they run here. Where all but the plan fits, say why they do not."""
    flavour = _flavour(manifest.backend)
    if flavour is None or device == "cpu" or not torch.cuda.is_available():
        return None
    if installed_module(flavour) is None:
        return None
    try:
        driver = CudaDriver(parse_device(device, "cuda"))
        module = import_flavour(flavour)
        check_plans(folder, manifest, flavour, module.__version__, driver, is_lean(module))
    except RealCompoError as error:
        warnings.warn(f"the ONNX graphs run instead of the plans: {error}", stacklevel=4)
        return None
    return flavour


def _load_plans(
    folder: Path, manifest: Manifest, flavour: Flavour, device: str, second_stream: bool, specs: Sequence[EngineSpec]
) -> Engines:
    from runtime.backends.tensorrt import plan_openers

    chosen = parse_device(device, "cuda")
    module = import_flavour(flavour)
    if chosen.type == "cpu" or not torch.cuda.is_available():
        raise RealCompoError(
            f"backend={flavour!r}, device={device!r}: plans take an NVIDIA GPU and a CUDA build of torch; use "
            "backend='onnx'"
        )
    driver = CudaDriver(chosen)
    check_plans(folder, manifest, flavour, module.__version__, driver, is_lean(module))
    library = open_library(flavour, module, driver)
    runners = Opened(plan_openers(library, folder, manifest, second_stream, specs))
    return Engines(runners, chosen, Streams(chosen, second_stream), capturable=True, kernels="tensorrt")


def _load_graphs(
    folder: Path, manifest: Manifest, device: str, tensorrt: bool, second_stream: bool, specs: Sequence[EngineSpec]
) -> Engines:
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
    threads = torch.get_num_threads()  # OMP_NUM_THREADS and torch.set_num_threads bind ONNX Runtime too
    ours = chosen.type == "cuda" and not tensorrt  # the TensorRT provider keeps to a stream of its own
    if second_stream and not ours:
        raise RealCompoError(
            "second_stream=True takes a GPU, and plans or ONNX Runtime's CUDA provider; use device='cuda' and one of "
            f"backend=onnx, {', '.join(FLAVOURS)}"
        )
    if ours:
        streams = Streams(chosen, second_stream)
    else:
        streams = Streams(torch.device("cpu"), second=chosen.type == "cpu" and threads > 1)

    def open_runner(spec: EngineSpec, threads: int) -> OnnxRuntimeRunner:
        stream = streams.of_model(spec.model) if ours else None
        return OnnxRuntimeRunner(folder, manifest, spec, chosen, threads, tensorrt, stream)

    openers = {
        spec.role: partial(_share_threads, partial(open_runner, spec), spec, manifest.shared_unet, threads, streams)
        for spec in specs
    }
    kernels: Kernels = "tensorrt" if tensorrt else "cuda" if ours else "cpu"
    return Engines(Opened(openers), chosen, streams, capturable=ours, kernels=kernels)


def _share_threads(
    open_runner: Callable[[int], "OnnxRuntimeRunner"],
    spec: EngineSpec,
    shared_unet: bool,
    threads: int,
    streams: Streams,
) -> Runner:
    """A model's engine has half of the threads if two work at once; but those that also work alone, as all do where
    both models share a UNet, have all of four and more. Half of fewer is one: such an engine works on two halves of a
    batch at once."""
    if spec.model is None or not streams.has_free_thread:
        return open_runner(threads)
    if threads < 4:
        runner = open_runner(1)
        return HalvedRunner(runner, runner.twin(), streams)
    return open_runner(threads if spec.alone or shared_unet else threads // 2)
