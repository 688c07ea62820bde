"""ONNX file -> TensorRT plan, in a process of its own. TensorRT-RTX needs no GPU, TensorRT builds on its target."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from export.graphs.engine import Rows, Signature
from export.plans.memory import gigabytes
from export.plans.plan_options import PlanOptions
from export.plans.plan_worker import PlanRequest, Tensor
from runtime.bundle.manifest import FileSpec, PlanSpec, TensorSpec, sha256_of
from runtime.errors import RealCompoError
from runtime.words import FLAVOUR_MODULES

Profile = dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
Tell = Callable[[str], None]  # what the builder is doing, and first how much memory it takes

_ROOT = Path(__file__).parents[2]  # where the worker finds this package


def build_plan(
    files: Sequence[Path],
    signature: Signature,
    options: PlanOptions,
    rows: Rows,
    path: Path,
    tell: Tell = lambda doing: None,
) -> PlanSpec:
    """Build the plan of a graph for batches of `rows` and write it to `path`.

    Args:
        files: the .onnx file, and its external data if it has any.

    Raises:
        RealCompoError: TensorRT rejects the graph (its own messages stand above on the terminal), reads other inputs
            and outputs than the signature's, or takes more memory than there is.
    """
    profile = _profile(signature, rows)
    request = PlanRequest(
        onnx=str(files[0].resolve()),
        plan=str(path.resolve()),
        module=FLAVOUR_MODULES[options.flavour],
        compute_capabilities=list(options.compute_capabilities),
        inputs=[_tensor(tensor) for tensor in signature.inputs],
        outputs=[_tensor(tensor) for tensor in signature.outputs],
        profile={name: [list(shape) for shape in shapes] for name, shapes in profile.items()},
        flags=options.builder.flags(),
        timing_cache=str(options.builder.timing_cache.resolve()) if options.builder.timing_cache else None,
        weight_bytes=sum(file.stat().st_size for file in files),
    )
    _run_worker(request, f"the {options.flavour} {options.version} plan of {files[0].name}", tell)
    return PlanSpec(
        file=FileSpec(name=path.name, sha256=sha256_of(path)),
        flavour=options.flavour,
        version=options.version,
        compute_capabilities=options.compute_capabilities,
        gpu=options.gpu,
        flags=request.flags,
        profile=profile,
    )


def _run_worker(request: PlanRequest, what: str, tell: Tell) -> None:
    """Start the worker and follow its events; whatever ends this function ends the worker."""
    command = [sys.executable, "-m", "export.plans.plan_worker"]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
        start_new_session=True,  # Ctrl-C goes to this process, which kills the worker
    ) as worker:
        assert worker.stdin and worker.stdout
        try:
            json.dump(asdict(request), worker.stdin)
            worker.stdin.close()
            for line in worker.stdout:
                _follow(json.loads(line), what, tell)
        except BaseException:
            worker.kill()
            raise
    if worker.returncode:
        raise RealCompoError(f"{what} cannot be built: {_ending(worker.returncode)}")


def _follow(event: dict[str, object], what: str, tell: Tell) -> None:
    match event:
        case {"memory": int(needed)}:
            tell(f"takes about {gigabytes(needed)} of memory")
        case {"phase": phase, "step": step, "steps": steps}:
            tell(f"{phase}, {step}/{steps}")
        case {"disk": [int(number), str(reason)]}:
            raise OSError(number, reason)
        case {"refused": reason}:
            raise RealCompoError(f"{what} cannot be built: {reason}")


def _ending(code: int) -> str:
    if code == -signal.SIGKILL:
        return "the system killed its process, most likely for want of memory; end other programs and run it again"
    if code < 0:
        return (
            f"TensorRT crashed ({signal.Signals(-code).name}); run the same command again, and report it if it recurs"
        )
    return "its process failed, for the reason above"


def _tensor(tensor: TensorSpec) -> Tensor:
    return tensor.name, tensor.dtype, [size if isinstance(size, int) else -1 for size in tensor.shape]


def _profile(signature: Signature, rows: Rows) -> Profile:
    smallest, usual, largest = rows
    fixed = {tensor.name: tuple(int(size) for size in tensor.shape[1:]) for tensor in signature.inputs}
    return {name: ((smallest, *shape), (usual, *shape), (largest, *shape)) for name, shape in fixed.items()}
