"""ONNX Runtime: torch tensors are bound by pointer, so that nothing is copied through the host."""

from pathlib import Path
from typing import Any

import onnxruntime as ort
import torch

from runtime.backends.base import ELEMENT_TYPES, check_inputs, output_shape
from runtime.bundle import EngineSpec, Manifest, TensorSpec, how_to_rebuild
from runtime.errors import RealCompoError

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


class OnnxRuntimeRunner:
    """Runs one ONNX graph on the CPU, or on a CUDA device with ONNX Runtime's CUDA provider.

    Outputs live in buffers that the next call with the same sizes overwrites.
    """

    def __init__(self, folder: Path, manifest: Manifest, spec: EngineSpec, device: torch.device) -> None:
        self.spec = spec
        self.device = device
        self._session = _open_session(folder, manifest, spec, device)
        self._binding = self._session.io_binding()
        self._sizes: dict[str, int] = {}
        self._outputs: dict[str, torch.Tensor] = {}

    def __call__(self, **tensors: torch.Tensor) -> dict[str, torch.Tensor]:
        sizes = check_inputs(self.spec, tensors)
        inputs = {name: tensor.to(self.device).contiguous() for name, tensor in tensors.items()}
        outputs = self._buffers(sizes)
        for wanted in self.spec.inputs:
            self._binding.bind_input(**self._pointer(wanted, inputs[wanted.name]))
        for made in self.spec.outputs:
            self._binding.bind_output(**self._pointer(made, outputs[made.name]))
        self._wait_for_inputs()
        self._session.run_with_iobinding(self._binding)
        return dict(outputs)

    def _buffers(self, sizes: dict[str, int]) -> dict[str, torch.Tensor]:
        if sizes != self._sizes:
            self._sizes = sizes
            self._outputs = {
                made.name: torch.empty(
                    output_shape(made, sizes), dtype=ELEMENT_TYPES[made.dtype].torch, device=self.device
                )
                for made in self.spec.outputs
            }
        return self._outputs

    def _pointer(self, spec: TensorSpec, tensor: torch.Tensor) -> dict[str, Any]:
        return {
            "name": spec.name,
            "device_type": self.device.type,
            "device_id": self.device.index or 0,
            "element_type": ELEMENT_TYPES[spec.dtype].onnx,
            "shape": tuple(tensor.shape),
            "buffer_ptr": tensor.data_ptr(),
        }

    def _wait_for_inputs(self) -> None:
        if self.device.type == "cuda":  # ONNX Runtime has a stream of its own, which does not wait for torch's
            torch.cuda.current_stream(self.device).synchronize()


def choose_device(name: str) -> torch.device:
    """The device for `auto`, `cpu`, `cuda` or `cuda:N`: `auto` is CUDA where torch and ONNX Runtime both have it.

    Raises:
        RealCompoError: an unknown name, or CUDA where it is not to be had.
    """
    has_cuda = torch.cuda.is_available() and CUDA in ort.get_available_providers()
    if name == "auto":
        name = "cuda" if has_cuda else "cpu"
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdecimal()):
        raise RealCompoError(f"device={name!r} is unknown; use auto, cpu, cuda or cuda:N")
    if kind == "cuda" and not has_cuda:
        raise RealCompoError(
            f"device={name!r}: it takes a GPU, a CUDA build of torch and onnxruntime-gpu; use device='cpu'"
        )
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise RealCompoError(f"device={name!r}: this machine has {torch.cuda.device_count()} CUDA device(s)")
    return torch.device(kind, int(index or 0)) if kind == "cuda" else torch.device("cpu")


def _open_session(folder: Path, manifest: Manifest, spec: EngineSpec, device: torch.device) -> ort.InferenceSession:
    path = folder / spec.graph[0].name
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()  # OMP_NUM_THREADS and torch.set_num_threads bind both
    options.log_severity_level = 3  # errors: its warnings are about graph details that no user can mend
    providers: list[Any] = [(CUDA, {"device_id": device.index})] if device.type == "cuda" else []
    try:
        session = ort.InferenceSession(path, options, providers=[*providers, CPU])
    except Exception as error:  # its exceptions share no base class
        reason = " ".join(str(error).split())
        raise RealCompoError(f"{path} does not load: {reason}. {how_to_rebuild(folder, manifest)}") from error
    _check_signature(folder, manifest, spec, session)
    return session


def _check_signature(folder: Path, manifest: Manifest, spec: EngineSpec, session: ort.InferenceSession) -> None:
    for kind, found, wanted in (
        ("inputs", session.get_inputs(), spec.inputs),
        ("outputs", session.get_outputs(), spec.outputs),
    ):
        if {node.name for node in found} != {tensor.name for tensor in wanted}:
            raise RealCompoError(
                f"{folder / spec.graph[0].name} has the {kind} {', '.join(node.name for node in found)}, but the "
                f"manifest says {', '.join(tensor.name for tensor in wanted)}. {how_to_rebuild(folder, manifest)}"
            )
