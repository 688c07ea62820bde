"""From a bundle's plans to TensorRT engines. Whatever keeps a plan from running here is said in one line.

`tensorrt` and `tensorrt_rtx` share their Python API: all here takes the module as an argument.
"""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from runtime.backends.base import ELEMENT_TYPES, check_names
from runtime.backends.devices import Driver
from runtime.bundle.manifest import EngineSpec, Manifest, PlanSpec, how_to_rebuild
from runtime.errors import RealCompoError
from runtime.words import FLAVOUR_MODULES, Flavour

LEAN_MODULE = "tensorrt_lean_bindings"  # of `tensorrt`: runs plans that are version-compatible, and nothing else


@dataclass(frozen=True)
class Library:
    """A flavour of TensorRT, ready to load plans. It may be the fake of a test, so its objects have no types."""

    flavour: Flavour
    module: Any
    log: Any
    runtime: Any
    driver: Driver


def installed_module(flavour: Flavour) -> str | None:
    """The module that runs plans of a flavour: the whole library, or else the lean runtime of it."""
    names = [FLAVOUR_MODULES[flavour], *([LEAN_MODULE] if flavour == "tensorrt" else [])]
    return next((name for name in names if importlib.util.find_spec(name)), None)


def import_flavour(flavour: Flavour) -> ModuleType:
    """Raises: RealCompoError: it is not installed, or does not load."""
    name = installed_module(flavour) or FLAVOUR_MODULES[flavour]
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:  # OSError: a shared library that it wants
        raise RealCompoError(
            f"backend={flavour!r}: {name} does not load ({error}); pip install 'realcompo[{flavour}]'"
        ) from error


def open_library(flavour: Flavour, module: Any, driver: Driver) -> Library:
    """Raises: RealCompoError: TensorRT finds no GPU or driver that it can use."""
    log = _make_log(module)
    with driver.active():
        runtime = _created(lambda: module.Runtime(log))
    if runtime is None:
        raise RealCompoError(
            f"{flavour} {module.__version__} does not start on {driver.gpu()}: {log.reason()}; "
            "update the NVIDIA driver, or use backend='onnx'"
        )
    return Library(flavour, module, log, runtime, driver)


def is_lean(module: Any) -> bool:
    """Whether it can neither build plans nor read graphs."""
    return not hasattr(module, "Builder")


def check_plans(
    folder: Path, manifest: Manifest, flavour: Flavour, version: str, driver: Driver, lean: bool = False
) -> None:
    """Check that all engines have plans which a flavour of this version runs on this GPU.

    Args:
        lean: what is installed is the lean runtime.

    Raises:
        RealCompoError: the first that has not, with the command that builds it.
    """
    for spec in manifest.engines.values():
        if spec.plan is None:
            raise RealCompoError(
                f"{folder} has no plan of {spec.role}, so backend={flavour!r} cannot run it; use backend='onnx'. "
                f"{how_to_rebuild(folder, manifest, backend=flavour)}"
            )
        _check_flavour(folder, manifest, spec.plan, flavour)
        if lean:
            _check_lean(spec.plan)
        _check_version(folder, manifest, spec.plan, version)
        _check_gpu(folder, manifest, spec.plan, driver)


def load_plan(library: Library, folder: Path, manifest: Manifest, spec: EngineSpec) -> Any:
    """The engine of a plan, with its weights, on the library's device.

    Raises:
        RealCompoError: a file that is missing or damaged, tensors other than the manifest's, or too little memory.
    """
    assert spec.plan is not None  # see `check_plans`
    path, driver = folder / spec.plan.file.name, library.driver
    content = _read(path, folder, manifest)
    with driver.active():
        library.runtime.engine_host_code_allowed = bool(spec.plan.flags.get("version_compatible"))
        engine = _created(lambda: library.runtime.deserialize_cuda_engine(content))
        if engine is None:
            reason = library.log.reason()
            if "out of memory" in reason.lower():
                raise RealCompoError(out_of_memory(driver, f"the weights of {path.name}", len(content)))
            raise RealCompoError(
                f"{path} does not load as a plan of {library.flavour}: {reason}. {how_to_rebuild(folder, manifest)}"
            )
        if spec.plan.flags.get("strip_weights"):
            _refit(library, engine, folder, manifest, spec)
    _check_tensors(library, engine, folder, manifest, spec)
    return engine


def out_of_memory(driver: Driver, what: str, asked: int) -> str:
    """The line for an allocation that failed."""
    return (
        f"out of GPU memory: {what} take {asked / 2**20:.0f} MiB, {driver.free_memory() / 2**20:.0f} MiB are free on "
        f"{driver.gpu()}; end other programs on it, or build the bundle with a smaller --batch"
    )


def _make_log(module: Any) -> Any:
    class Log(module.ILogger):  # type: ignore[misc]
        """Keeps TensorRT's errors for our own lines, instead of printing them."""

        def __init__(self) -> None:
            super().__init__()
            self._errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (module.ILogger.INTERNAL_ERROR, module.ILogger.ERROR):
                self._errors.append(message)

        def reason(self) -> str:
            """What it said since it was last asked."""
            errors, self._errors = self._errors, []
            return " ".join(" ".join(errors).split()) or "TensorRT does not say why"

    return Log()


def _created(create: Callable[[], Any]) -> Any:
    """What TensorRT creates, or None: where its C++ API returns a null pointer, Python's may raise instead."""
    try:
        return create()
    except (RuntimeError, TypeError):
        return None


def _check_flavour(folder: Path, manifest: Manifest, plan: PlanSpec, flavour: Flavour) -> None:
    if plan.flavour != flavour:
        raise RealCompoError(
            f"{plan.file.name} is a plan of {plan.flavour}, not {flavour}; use backend={plan.flavour!r}. "
            f"{how_to_rebuild(folder, manifest, backend=flavour)}"
        )


def _check_lean(plan: PlanSpec) -> None:
    whole = "pip install 'realcompo[tensorrt]'"
    if not plan.flags.get("version_compatible"):
        raise RealCompoError(
            f"{plan.file.name} is not version-compatible, and TensorRT's lean runtime runs no other plan: {whole}, or "
            "rebuild with --version-compatible"
        )
    if plan.flags.get("strip_weights"):
        raise RealCompoError(
            f"{plan.file.name} is stripped of its weights, and TensorRT's lean runtime cannot read the graph that has "
            f"them: {whole}, or rebuild without --strip-weights"
        )


def _check_version(folder: Path, manifest: Manifest, plan: PlanSpec, version: str) -> None:
    """A version-compatible plan runs on its own version and later ones of that major version, others on their own."""
    built, found = _numbers(plan.version), _numbers(version)
    forward = plan.flags.get("version_compatible") and built[0] == found[0] and built <= found
    if built != found and not forward:
        raise RealCompoError(
            f"{plan.file.name} was built with {plan.flavour} {plan.version}, but {version} is installed: install that "
            f"version, or rebuild. {how_to_rebuild(folder, manifest)}"
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def _check_gpu(folder: Path, manifest: Manifest, plan: PlanSpec, driver: Driver) -> None:
    capability = driver.compute_capability()
    if plan.compute_capabilities and capability not in plan.compute_capabilities:  # none: the GPU that built it
        rtx = (
            {"compute_capability": capability} if plan.flavour == "tensorrt-rtx" else {}
        )  # tensorrt builds for its GPU
        raise RealCompoError(
            f"{plan.file.name} is for compute capability {', '.join(plan.compute_capabilities)}; {driver.gpu()} has "
            f"{capability}. {how_to_rebuild(folder, manifest, **rtx)}"
        )


def _read(path: Path, folder: Path, manifest: Manifest) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise RealCompoError(f"cannot read {path}: {reason}. {how_to_rebuild(folder, manifest)}") from error


def _refit(library: Library, engine: Any, folder: Path, manifest: Manifest, spec: EngineSpec) -> None:
    """Give an engine whose plan was stripped of its weights those of the ONNX graph."""
    files = [folder / file.name for file in spec.graph]  # the parser finds weights in files beside the graph
    if missing := [file for file in files if not file.is_file()]:
        raise RealCompoError(
            f"{missing[0]} is missing, and the plan of {spec.role} is stripped of its weights, which are there. "
            f"{how_to_rebuild(folder, manifest)}"
        )
    graph = files[0]
    refitter = library.module.Refitter(engine, library.log)
    parsed = library.module.OnnxParserRefitter(refitter, library.log).refit_from_file(str(graph))
    if not (parsed and refitter.refit_cuda_engine()):
        raise RealCompoError(
            f"the weights of {graph.name} do not fit {spec.role}'s plan: {library.log.reason()}. "
            f"{how_to_rebuild(folder, manifest)}"
        )


def _check_tensors(library: Library, engine: Any, folder: Path, manifest: Manifest, spec: EngineSpec) -> None:
    assert spec.plan is not None
    path, mode = folder / spec.plan.file.name, library.module.TensorIOMode
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == mode.INPUT]
    check_names(folder, manifest, path, "inputs", inputs, spec.inputs)
    check_names(folder, manifest, path, "outputs", [name for name in names if name not in inputs], spec.outputs)
    for tensor in (*spec.inputs, *spec.outputs):
        found = engine.get_tensor_dtype(tensor.name).name
        if found != ELEMENT_TYPES[tensor.dtype].tensorrt:
            raise RealCompoError(
                f"{path} has {tensor.name} as {found}, but the manifest says {tensor.dtype}. "
                f"{how_to_rebuild(folder, manifest)}"
            )
