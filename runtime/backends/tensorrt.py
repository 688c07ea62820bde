"""TensorRT and TensorRT-RTX: torch tensors are shared by pointer, and all calls of one size work on the same memory."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from runtime.backends.base import ELEMENT_TYPES, check_inputs, output_shape
from runtime.backends.cache import cache_folder
from runtime.backends.plans import Library, load_plan, out_of_memory
from runtime.bundle.manifest import EngineSpec, FileSpec, Manifest, how_to_rebuild, write_atomically
from runtime.errors import RealCompoError
from runtime.runner import Runner
from runtime.words import Role


class Scratch:
    """Memory for the activations of contexts that never run at the same time: one block, as large as the largest needs.

    It is allocated when it is first used and never moves, for CUDA graphs keep its address. A plan that is opened later
    and needs more has a larger one made; contexts from before keep theirs.
    """

    def __init__(self, library: Library) -> None:
        self._library = library
        self._size = 0
        self._memory: Tensor | None = None

    def reserve(self, size: int) -> None:
        """Make room for a context of that many bytes. Of all that are told before `memory`, one block is made."""
        self._size = max(self._size, size)

    def memory(self) -> Tensor:
        if self._memory is None or self._memory.nbytes < self._size:
            self._memory = allocate(self._library, "the activations", (self._size,), torch.uint8, torch.empty)
        return self._memory


@dataclass(frozen=True)
class Binding:
    """An execution context whose shapes and addresses are set, for all calls of one number of rows."""

    context: Any
    inputs: dict[str, Tensor]  # views of that many rows; the context may work on more
    outputs: dict[str, Tensor]
    capturable: bool
    scratch: Tensor  # which the context works in


class TensorRTRunner:
    """Runs one plan, on torch's current stream and without waiting for it.

    Each number of rows has a context of its own, because a captured CUDA graph holds on to what its context had set.
    """

    def __init__(self, library: Library, folder: Path, manifest: Manifest, spec: EngineSpec, scratch: Scratch) -> None:
        self.spec = spec
        self._library = library
        self._rebuild = partial(how_to_rebuild, folder, manifest)
        self._batch = manifest.batch
        self._engine = load_plan(library, folder, manifest, spec)
        self._scratch = scratch
        self._scratch.reserve(self._engine.device_memory_size_v2)
        self._config = ContextConfig(library, self._engine, spec)
        self._least_rows, _, self.most_rows = (
            shape[0] for shape in self._engine.get_tensor_profile_shape(spec.inputs[0].name, 0)
        )
        self._bindings: dict[int, Binding] = {}

    def __call__(self, **tensors: Tensor) -> dict[str, Tensor]:
        sizes = check_inputs(self.spec, tensors)
        with self._library.driver.active():
            binding = self._binding(sizes["batch"])
            if not binding.capturable and self._library.driver.is_capturing():
                raise RealCompoError(
                    f"{self.spec.role}'s plan allocates memory while it runs, as a CUDA graph cannot. {self._rebuild()}"
                )
            for name, tensor in tensors.items():
                if tensor.data_ptr() != binding.inputs[name].data_ptr():
                    binding.inputs[name].copy_(tensor)
            self._execute(binding)
            return dict(binding.outputs)

    def inputs(self, rows: int) -> dict[str, Tensor]:
        """The buffers that a call of that many rows reads: what is written there and passed is not copied."""
        with self._library.driver.active():
            return dict(self._binding(rows).inputs)

    def _binding(self, rows: int) -> Binding:
        if rows not in self._bindings:
            binding = self._bind(rows)
            self._execute(binding)  # on zeros: what TensorRT does at a first run is done now, and not in a capture
            self._config.save_cache()
            self._bindings[rows] = binding
        return self._bindings[rows]

    def _bind(self, rows: int) -> Binding:
        capacity = self._capacity(rows)
        context = self._create_context()
        scratch, stream = self._scratch.memory(), self._library.driver.stream()
        context.set_device_memory(scratch.data_ptr(), scratch.nbytes)
        self._check(context.set_optimization_profile_async(0, stream))
        buffers = self._allocate(capacity)
        for tensor in self.spec.inputs:
            self._check(context.set_input_shape(tensor.name, tuple(buffers[tensor.name].shape)))
        for name, buffer in buffers.items():
            self._check(context.set_tensor_address(name, buffer.data_ptr()))
        views = {name: buffer[:rows] for name, buffer in buffers.items()}
        return Binding(
            context,
            {tensor.name: views[tensor.name] for tensor in self.spec.inputs},
            {tensor.name: views[tensor.name] for tensor in self.spec.outputs},
            self._config.is_capturable(context, stream),
            scratch,
        )

    def _capacity(self, rows: int) -> int:
        """How many rows the context works on: so many, or the least that the plan takes."""
        if rows > self.most_rows:
            smallest, usual, _ = self._batch
            raise RealCompoError(
                f"{self.spec.role} takes at most {self.most_rows} rows at once, not {rows}: draw fewer images at "
                f"once, or rebuild for more. {self._rebuild(batch=f'{smallest}:{usual}:{rows}')}"
            )
        return max(rows, self._least_rows)

    def _create_context(self) -> Any:
        context = self._config.create_context()
        if context is None:
            raise RealCompoError(
                f"{self.spec.role}: TensorRT creates no execution context: {self._library.log.reason()}; "
                f"{self._library.driver.free_memory() / 2**20:.0f} MiB of GPU memory are free"
            )
        return context

    def _allocate(self, rows: int) -> dict[str, Tensor]:
        return {
            tensor.name: allocate(
                self._library,
                f"the values of {self.spec.role}'s {tensor.name}",
                output_shape(tensor, {"batch": rows}),
                ELEMENT_TYPES[tensor.dtype].torch,
            )
            for tensor in (*self.spec.inputs, *self.spec.outputs)
        }

    def _execute(self, binding: Binding) -> None:
        self._check(binding.context.execute_async_v3(self._library.driver.stream()))

    def _check(self, succeeded: bool) -> None:
        if not succeeded:
            raise RealCompoError(f"{self.spec.role} fails in TensorRT: {self._library.log.reason()}. {self._rebuild()}")


class ContextConfig:
    """How a plan's contexts are made. Their scratch memory is ours, and a TensorRT-RTX plan, whose kernels are compiled
    when it first runs, compiles those for the very shape at once and keeps them for the next start.
    """

    def __init__(self, library: Library, engine: Any, spec: EngineSpec) -> None:
        assert spec.plan is not None  # see `plans.check_plans`
        self._engine = engine
        self._rtx = library.flavour == "tensorrt-rtx"
        self._user_managed = library.module.ExecutionContextAllocationStrategy.USER_MANAGED
        if self._rtx:
            self._path = _cache_path(spec.plan.file, library)
            self._config, self._cache = self._make_rtx_config(library.module)

    def create_context(self) -> Any:
        """A context without scratch memory, or None."""
        return self._engine.create_execution_context(self._config if self._rtx else self._user_managed)

    def is_capturable(self, context: Any, stream: int) -> bool:
        """Whether TensorRT-RTX runs it in a CUDA graph; TensorRT does whatever our graphs hold."""
        return bool(context.is_stream_capturable(stream)) if self._rtx else True

    def save_cache(self) -> None:
        """Keep what TensorRT-RTX has compiled."""
        if self._rtx:
            with suppress(OSError):  # no place for a cache: the next start compiles again
                self._path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(self._path, bytes(self._cache.serialize()))

    def _make_rtx_config(self, module: Any) -> tuple[Any, Any]:
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(self._user_managed)
        config.dynamic_shapes_kernel_specialization_strategy = module.DynamicShapesKernelSpecializationStrategy.EAGER
        cache = config.create_runtime_cache()
        with suppress(OSError):  # none yet
            cache.deserialize(self._path.read_bytes())  # of another GPU or version, it is refused and stays empty
        config.set_runtime_cache(cache)
        return config, cache


def plan_openers(
    library: Library, folder: Path, manifest: Manifest, second_stream: bool, specs: Sequence[EngineSpec]
) -> dict[Role, Callable[[], Runner]]:
    """What opens each engine's plan, which may raise as `plans.load_plan` does. Plans that never run at the same time
    share their scratch memory: on the second stream the text-to-image model runs beside the other.
    """
    first = Scratch(library)
    second = Scratch(library) if second_stream else first
    return {
        spec.role: partial(
            TensorRTRunner, library, folder, manifest, spec, second if spec.model == "text_to_image" else first
        )
        for spec in specs
    }


def allocate(
    library: Library, what: str, shape: tuple[int, ...], dtype: torch.dtype, make: Callable[..., Tensor] = torch.zeros
) -> Tensor:
    """A tensor on the library's device.

    Raises:
        RealCompoError: there is too little memory.
    """
    try:
        return make(shape, dtype=dtype, device=library.driver.device)
    except torch.OutOfMemoryError as error:
        asked = torch.Size(shape).numel() * dtype.itemsize
        raise RealCompoError(out_of_memory(library.driver, what, asked)) from error


def _cache_path(plan: FileSpec, library: Library) -> Path:
    capability = library.driver.compute_capability()
    return cache_folder() / library.flavour / f"{plan.sha256[:16]}-{capability}.cache"
