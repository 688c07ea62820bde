"""What executes engines: one runner per engine, all behind the protocol in `base`."""

from pathlib import Path

import torch

from runtime.backends.base import Runner
from runtime.bundle import Manifest, Role
from runtime.errors import RealCompoError

BACKENDS = ("auto", "onnx")


def load_runners(
    folder: Path, manifest: Manifest, backend: str, device: str
) -> tuple[dict[Role, Runner], torch.device]:
    """Open every engine of a bundle; also says on which device they ran up.

    Raises:
        RealCompoError: a backend or device that this runtime or machine has not, or an engine that does not load.
    """
    if backend.startswith("tensorrt"):
        raise RealCompoError(
            f"backend={backend!r}: this runtime does not run TensorRT plans yet; use backend='onnx', which runs the "
            "graphs that every bundle carries"
        )
    if backend not in BACKENDS:
        raise RealCompoError(f"backend={backend!r} is unknown; use one of {', '.join(BACKENDS)}")
    try:
        from runtime.backends.onnxruntime import OnnxRuntimeRunner, choose_device
    except ImportError as error:
        raise RealCompoError(f"ONNX Runtime does not load ({error}); pip install 'realcompo[onnxruntime]'") from error
    chosen = choose_device(device)
    return {role: OnnxRuntimeRunner(folder, manifest, spec, chosen) for role, spec in manifest.engines.items()}, chosen
