"""ONNX Runtime: torch tensors are bound by pointer, so that nothing is copied through the host."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnxruntime as ort
import torch

from runtime.backends.base import ELEMENT_TYPES, check_inputs, check_names, output_shape
from runtime.backends.cache import cache_folder
from runtime.backends.devices import parse_device
from runtime.bundle.manifest import EngineSpec, Manifest, TensorSpec, how_to_rebuild
from runtime.errors import RealCompoError

# Of a graph. For larger ones on a CPU, weights packed, or in the blocked layout that ONNX Runtime has for convolutions,
# are gigabytes more and gain nothing; as they are, they stay in the mapped file, once for all graphs.
PACKED_BYTES = 1_500_000_000
Sizes = tuple[tuple[str, int], ...]  # of a call's symbolic dimensions, by name
CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"


class OnnxRuntimeRunner:
    """Runs one ONNX graph on the CPU, or on a GPU with ONNX Runtime's CUDA provider or its TensorRT one.

    Outputs live in buffers that the next call with the same sizes overwrites. With a stream of ours the CUDA provider
    launches its work there and does not wait for it, so that a CUDA graph can hold a call. Without, as the TensorRT
    provider does, ONNX Runtime works on a stream of its own and each call waits.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        spec: EngineSpec,
        device: torch.device,
        threads: int,
        tensorrt: bool = False,
        stream: torch.cuda.Stream | None = None,
    ) -> None:
        self.spec = spec
        self.device = device
        self.most_rows = manifest.batch[-1] if tensorrt else None  # see `_tensorrt_options`
        self._stream = stream
        self._run_options = _run_options(waits=stream is None)
        providers = choose_providers(manifest, spec, device, tensorrt, stream)
        graph = spec.graph[0] if tensorrt else spec.for_onnx_runtime
        self._session = _open_session(folder / graph.name, folder, manifest, spec, providers, threads)
        self._make_buffers()

    def twin(self) -> "OnnxRuntimeRunner":
        """Another runner of the same session, which may run at the same time."""
        twin = copy.copy(self)
        twin._make_buffers()
        return twin

    def __call__(self, **tensors: torch.Tensor) -> dict[str, torch.Tensor]:
        sizes = check_inputs(self.spec, tensors)
        inputs = {name: tensor.to(self.device).contiguous() for name, tensor in tensors.items()}
        known = _key(sizes) in self._outputs
        outputs = self._buffers(sizes)
        for wanted in self.spec.inputs:
            self._binding.bind_input(**self._pointer(wanted, inputs[wanted.name]))
        for made in self.spec.outputs:
            self._binding.bind_output(**self._pointer(made, outputs[made.name]))
        with self._in_order():
            self._run()
            if self._stream and not known:  # the memory of sizes seen before is planned, and that takes memory, once
                self._run()
        return dict(outputs)

    def _run(self) -> None:
        self._session.run_with_iobinding(self._binding, self._run_options)

    def _make_buffers(self) -> None:
        self._binding = self._session.io_binding()
        self._outputs: dict[Sizes, dict[str, torch.Tensor]] = {}

    def _buffers(self, sizes: dict[str, int]) -> dict[str, torch.Tensor]:
        """Of these sizes, and of those before too where a CUDA graph may know their addresses."""
        key = _key(sizes)
        if key not in self._outputs:
            if self._stream is None:
                self._outputs.clear()
            self._outputs[key] = {
                made.name: torch.empty(
                    output_shape(made, sizes), dtype=ELEMENT_TYPES[made.dtype].torch, device=self.device
                )
                for made in self.spec.outputs
            }
        return self._outputs[key]

    def _pointer(self, spec: TensorSpec, tensor: torch.Tensor) -> dict[str, Any]:
        return {
            "name": spec.name,
            "device_type": self.device.type,
            "device_id": self.device.index or 0,
            "element_type": ELEMENT_TYPES[spec.dtype].onnx,
            "shape": tuple(tensor.shape),
            "buffer_ptr": tensor.data_ptr(),
        }

    @contextmanager
    def _in_order(self) -> Iterator[None]:
        """After what the caller has enqueued, and before what it enqueues later."""
        if self.device.type != "cuda":
            yield
            return
        caller = torch.cuda.current_stream(self.device)
        if self._stream is None:
            caller.synchronize()
            yield
        elif self._stream == caller:
            yield
        else:
            self._stream.wait_stream(caller)
            yield
            caller.wait_stream(self._stream)


def _key(sizes: dict[str, int]) -> Sizes:
    return tuple(sorted(sizes.items()))


def _run_options(waits: bool) -> Any:
    options = ort.RunOptions()
    if not waits:
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    return options


def choose_device(name: str, provider: str) -> torch.device:
    """The device for `auto`, `cpu`, `cuda` or `cuda:N`: `auto` is CUDA where torch and ONNX Runtime both have it.

    Raises:
        RealCompoError: an unknown name, or CUDA where it is not to be had.
    """
    has_cuda = torch.cuda.is_available() and provider in ort.get_available_providers()
    device = parse_device(name, "cuda" if has_cuda else "cpu")
    if device.type == "cuda" and not has_cuda:
        raise RealCompoError(
            f"device={name!r}: it takes a GPU, a CUDA build of torch and onnxruntime-gpu; use device='cpu'"
        )
    return device


def choose_providers(
    manifest: Manifest, spec: EngineSpec, device: torch.device, tensorrt: bool, stream: torch.cuda.Stream | None = None
) -> list[Any]:
    """What ONNX Runtime is to run an engine with, in the order of preference."""
    if device.type == "cpu":
        return [CPU]
    cuda = (CUDA, {"device_id": device.index, "use_tf32": "0"})  # fp32 is what the bundle says, as in plans
    if stream is not None:
        cuda[1]["user_compute_stream"] = str(stream.cuda_stream)
    return [(TENSORRT, _tensorrt_options(manifest, spec, device)), cuda, CPU] if tensorrt else [cuda, CPU]


def _tensorrt_options(manifest: Manifest, spec: EngineSpec, device: torch.device) -> dict[str, Any]:
    """Engines are built on this GPU when they are first loaded, for the bundle's range of rows, and kept. Nothing here
    says a precision: it is in the graph, and TensorRT 11 knows no other way."""
    smallest, usual, largest = (
        ",".join(f"{tensor.name}:{'x'.join(map(str, output_shape(tensor, {'batch': rows})))}" for tensor in spec.inputs)
        for rows in manifest.batch
    )
    return {
        "device_id": device.index,
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(cache_folder() / "onnx-tensorrt" / spec.graph[0].sha256[:16]),
        "trt_profile_min_shapes": smallest,
        "trt_profile_opt_shapes": usual,
        "trt_profile_max_shapes": largest,
    }


def _open_session(
    path: Path, folder: Path, manifest: Manifest, spec: EngineSpec, providers: list[Any], threads: int
) -> ort.InferenceSession:
    if providers != [CPU]:  # its errors come as exceptions; what it logs besides are the kernels that it does not take
        ort.set_default_logger_severity(4)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors: its warnings are about graph details that no user can mend
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # seven idle pools would starve torch's
    try:
        if sum((folder / file.name).stat().st_size for file in spec.graph) > PACKED_BYTES:
            options.add_session_config_entry("session.disable_prepacking", "1")
            if providers == [CPU]:
                options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
                options.enable_mem_pattern = False  # which holds one more block of activations
        session = ort.InferenceSession(path, options, providers=providers)
    except Exception as error:  # its exceptions share no base class
        raise RealCompoError(_why_not(path, error, spec, folder, manifest)) from error
    _check_providers(session, providers)
    check_names(folder, manifest, path, "inputs", [node.name for node in session.get_inputs()], spec.inputs)
    check_names(folder, manifest, path, "outputs", [node.name for node in session.get_outputs()], spec.outputs)
    return session


def _why_not(path: Path, error: Exception, spec: EngineSpec, folder: Path, manifest: Manifest) -> str:
    if spec.precision == "bf16" and "NOT_IMPLEMENTED" in str(error):
        return (
            f"{path} does not load: ONNX Runtime lacks bf16 operators here. Run it on a GPU, or a copy that rounds "
            f"alike: python -m export widen {folder} --out NEW"
        )
    return f"{path} does not load: {' '.join(str(error).split())}. {how_to_rebuild(folder, manifest)}"


def _check_providers(session: ort.InferenceSession, wanted: list[Any]) -> None:
    """ONNX Runtime leaves out, without an error, what does not load."""
    first = wanted[0] if isinstance(wanted[0], str) else wanted[0][0]
    if first not in session.get_providers():
        raise RealCompoError(
            f"ONNX Runtime cannot load its {first}: install the CUDA, cuDNN and TensorRT libraries that it was built "
            "for, or use backend='onnx', device='cpu'"
        )
