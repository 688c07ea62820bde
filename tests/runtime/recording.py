"""Stand-ins for what this machine has not: a GPU, a TensorRT that runs plans, and CUDA graphs.

`RecordingTensorRT` has the part of TensorRT's Python API that the runner uses (a test compares it with the real
module), writes down every call, and refuses those out of order. A plan of it names an ONNX graph; executing a context
runs that graph with ONNX Runtime on the addresses that the context was given, in host memory. So what the runner
returns is right only if its addresses, shapes and copies are.

`TapeGraph` is a CUDA graph in host memory: it notes each operation with the very tensors it was called on and Python's
numbers as they were then, and replays them. What a real graph would freeze, it freezes too.
"""

import json
from collections.abc import Callable
from contextlib import nullcontext
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, TypeVar

import onnxruntime as ort
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from runtime.backends import Engines
from runtime.backends.devices import Driver
from runtime.backends.opened import Opened
from runtime.backends.plans import Library, open_library
from runtime.backends.streams import Streams
from runtime.backends.tensorrt import plan_openers
from runtime.bundle.manifest import FileSpec, Manifest, PlanSpec, read_manifest, sha256_of, write_manifest
from runtime.words import Flavour

T = TypeVar("T")
VERSION, CAPABILITY = "1.7.1.116", "8.9"
DTYPES = {"tensor(float)": "FLOAT", "tensor(int64)": "INT64"}
NUMPY_TYPES = {"tensor(float)": "float32", "tensor(int64)": "int64"}


class RecordingDriver:
    """A GPU whose memory is the host's."""

    def __init__(self, capability: str = CAPABILITY) -> None:
        self.device = torch.device("cpu")
        self.capability = capability
        self.current_stream = 7

    def gpu(self) -> str:
        return "Recording GPU"

    def compute_capability(self) -> str:
        return self.capability

    def free_memory(self) -> int:
        return 3 * 2**20

    def stream(self) -> int:
        return self.current_stream

    def is_capturing(self) -> bool:
        return TapeGraph.tape is not None

    def active(self) -> nullcontext[None]:
        return nullcontext()


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING = range(3)


class TensorIOMode(Enum):
    INPUT = 1
    OUTPUT = 2


class ExecutionContextAllocationStrategy(Enum):
    STATIC = 0
    USER_MANAGED = 2


class DynamicShapesKernelSpecializationStrategy(Enum):
    LAZY = 0
    EAGER = 1


class RecordingTensorRT:
    """The module `tensorrt` or `tensorrt_rtx`. `calls` lists what was called, in order: (role, method, *arguments)."""

    ILogger = ILogger
    TensorIOMode = TensorIOMode
    ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy
    DynamicShapesKernelSpecializationStrategy = DynamicShapesKernelSpecializationStrategy

    def __init__(self, version: str = VERSION) -> None:
        self.__version__ = version
        self.calls: list[tuple[Any, ...]] = []
        self.capturable = True
        self.contexts_left = 1000
        self.fails = ""  # a method that returns False
        self.fits = True  # whether refitted weights fit

    def Runtime(self, log: Any) -> "Runtime":
        return Runtime(self, log)

    def Refitter(self, engine: "ICudaEngine", log: Any) -> SimpleNamespace:
        return SimpleNamespace(engine=engine, refit_cuda_engine=lambda: engine.record("refit_cuda_engine"))

    def OnnxParserRefitter(self, refitter: Any, log: Any) -> SimpleNamespace:
        def refit_from_file(path: str) -> bool:
            refitter.engine.record("refit_from_file", path)
            return self.fits

        return SimpleNamespace(refit_from_file=refit_from_file)

    def of(self, role: str, *methods: str) -> list[tuple[Any, ...]]:
        """The calls about a role, all or those of some methods."""
        return [call[1:] for call in self.calls if call[0] == role and (not methods or call[1] in methods)]


class Runtime:
    engine_host_code_allowed = False

    def __init__(self, module: RecordingTensorRT, log: Any) -> None:
        self._module, self._log = module, log

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> "ICudaEngine | None":
        try:
            content = json.loads(serialized_engine)
        except ValueError:
            self._log.log(ILogger.ERROR, "header.magicTag ==\n kEXPECTED_MAGIC_TAG failed")
            self._log.log(ILogger.WARNING, "a warning")
            return None
        if content.get("too_large"):
            self._log.log(ILogger.ERROR, "Cuda Runtime (out of memory)")
            return None
        self._module.calls.append((content["role"], "deserialize_cuda_engine", self.engine_host_code_allowed))
        return ICudaEngine(self._module, self._log, content)


class ICudaEngine:
    """A plan's graph in ONNX Runtime."""

    def __init__(self, module: RecordingTensorRT, log: Any, plan: dict[str, Any]) -> None:
        self.module, self.log, self.role = module, log, plan["role"]
        options = ort.SessionOptions()
        options.log_severity_level = 3
        self.session = ort.InferenceSession(plan["graph"], options, providers=["CPUExecutionProvider"])
        self.nodes = {node.name: node for node in (*self.session.get_inputs(), *self.session.get_outputs())}
        self.profiles: list[list[int]] = plan["profiles"]
        self.device_memory_size_v2 = plan["scratch"]

    @property
    def num_io_tensors(self) -> int:
        return len(self.nodes)

    @property
    def num_optimization_profiles(self) -> int:
        return len(self.profiles)

    def record(self, *call: Any) -> bool:
        self.module.calls.append((self.role, *call))
        if call[0] == self.module.fails:
            self.log.log(ILogger.ERROR, f"{call[0]} failed")
            return False
        return True

    def get_tensor_name(self, index: int) -> str:
        return list(self.nodes)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        inputs = {node.name for node in self.session.get_inputs()}
        return TensorIOMode.INPUT if name in inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(name=DTYPES[self.nodes[name].type])

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        return [(rows, *self.nodes[name].shape[1:]) for rows in self.profiles[profile_index]]

    def create_runtime_config(self) -> "IRuntimeConfig":
        return IRuntimeConfig(self)

    def create_execution_context(self, strategy: Any) -> "IExecutionContext | None":
        user_managed = ExecutionContextAllocationStrategy.USER_MANAGED
        assert user_managed in (strategy, getattr(strategy, "strategy", None))
        self.module.contexts_left -= 1
        if self.module.contexts_left < 0:
            self.log.log(ILogger.ERROR, "no room")
            return None
        self.record("create_execution_context")
        return IExecutionContext(self)


class IRuntimeConfig:
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self.strategy: Any = None
        self.dynamic_shapes_kernel_specialization_strategy: Any = None

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> "IRuntimeCache":
        return IRuntimeCache(self._engine)

    def set_runtime_cache(self, cache: "IRuntimeCache") -> bool:
        return self._engine.record(
            "set_runtime_cache", self.dynamic_shapes_kernel_specialization_strategy.name, cache._content
        )


class IRuntimeCache:
    _content = b""

    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine

    def deserialize(self, blob: bytes) -> bool:
        self._content = blob
        return True

    def serialize(self) -> bytes:
        self._engine.record("serialize")
        return b"kernels of " + self._engine.role.encode()


class IExecutionContext:
    """Refuses to execute before all is set, and a profile, shape or address that is set a second time."""

    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._profile: int | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._memory: tuple[int, int] | None = None

    def set_device_memory(self, memory: int, size: int) -> None:
        assert self._memory is None and size >= self._engine.device_memory_size_v2
        self._memory = memory, size
        self._engine.record("set_device_memory", memory, size)

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        assert self._profile is None
        self._profile = profile_index
        return self._engine.record("set_optimization_profile_async", profile_index, stream_handle)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert self._profile is not None and name not in self._shapes
        low, _, high = self._engine.profiles[self._profile]
        assert low <= shape[0] <= high
        self._shapes[name] = shape
        return self._engine.record("set_input_shape", name, shape)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        assert name not in self._addresses
        self._addresses[name] = memory
        return self._engine.record("set_tensor_address", name, memory)

    def is_stream_capturable(self, stream: int) -> bool:
        return self._engine.module.capturable

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert self._memory is not None and set(self._addresses) == set(self._engine.nodes)
        on_tape(self._run)
        return self._engine.record("execute_async_v3", stream_handle)

    def _run(self) -> None:
        binding = self._engine.session.io_binding()
        rows = next(iter(self._shapes.values()))[0]
        for name, node in self._engine.nodes.items():
            bind = binding.bind_input if name in self._shapes else binding.bind_output
            dtype, shape = NUMPY_TYPES[node.type], (rows, *node.shape[1:])
            bind(name, "cpu", 0, dtype, shape, self._addresses[name])
        self._engine.session.run_with_iobinding(binding)


class TapeGraph:
    """Runs work when it captures it, so its first replay does nothing."""

    tape: ClassVar[list[Callable[[], None]] | None] = None
    made: ClassVar[int] = 0
    replays: ClassVar[int] = 0

    def __init__(self) -> None:
        TapeGraph.made += 1
        self._tape: list[Callable[[], None]] = []
        self._fresh = True

    def capture(self, work: Callable[[], T]) -> T:
        TapeGraph.tape = self._tape
        try:
            with Taping():
                return work()
        finally:
            TapeGraph.tape = None

    def replay(self) -> None:
        TapeGraph.replays += 1
        if not self._fresh:
            for operation in self._tape:
                operation()
        self._fresh = False


def on_tape(operation: Callable[[], None]) -> None:
    """Do it, and note it if a graph is being captured."""
    if TapeGraph.tape is not None:
        TapeGraph.tape.append(operation)
    operation()


class Taping(TorchDispatchMode):
    """Notes torch's operations. On replay, what was newly made is made again and put where it was."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        assert func is not torch.ops.aten._local_scalar_dense.default, "a graph cannot bring a number to the host"
        in_place_or_view = any(result.alias_info for result in func._schema.returns)

        def again() -> None:
            results = func(*args, **kwargs)
            if not in_place_or_view:
                for old, new in zip(tree_leaves(made), tree_leaves(results), strict=True):
                    old.copy_(new)

        assert TapeGraph.tape is not None
        TapeGraph.tape.append(again)
        return made


def add_plans(folder: Path, flavour: Flavour, flags: dict[str, Any] | None = None, **plan: Any) -> Manifest:
    """Give a bundle plans for `RecordingTensorRT`. `plan` overrides what they say: profiles, scratch, too_large."""
    manifest = read_manifest(folder)
    engines = {}
    for k, (role, spec) in enumerate(manifest.engines.items()):
        content = {
            "role": role,
            "graph": str(folder / spec.graph[0].name),
            "profiles": [[1, 2, 8]],
            "scratch": 1000 * k,
        }
        path = folder / f"{role}.engine"
        path.write_text(json.dumps(content | plan))
        engines[role] = spec.model_copy(
            update={
                "plan": PlanSpec(
                    file=FileSpec(name=path.name, sha256=sha256_of(path)),
                    flavour=flavour,
                    version=VERSION,
                    compute_capabilities=(CAPABILITY,),
                    flags=flags or {},
                    profile={},
                )
            }
        )
    command = ("build", "tiny", "--backend", flavour)
    manifest = manifest.model_copy(update={"engines": engines, "backend": flavour, "command": command})
    write_manifest(folder, manifest)
    return manifest


def recording_library(
    flavour: Flavour, module: RecordingTensorRT | None = None, driver: Driver | None = None
) -> Library:
    return open_library(flavour, module or RecordingTensorRT(), driver or RecordingDriver())


def recording_engines(library: Library, folder: Path, second_stream: bool = False) -> Engines:
    """All plans of a bundle, as `runtime.backends.load_engines` has them."""
    manifest = read_manifest(folder)
    openers = plan_openers(library, folder, manifest, second_stream, list(manifest.engines.values()))
    device = library.driver.device
    return Engines(Opened(openers), device, Streams(device), capturable=True, kernels="tensorrt")
