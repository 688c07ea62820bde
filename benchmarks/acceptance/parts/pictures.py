"""Every mode on the GPU's backends against ONNX Runtime on the CPU: final latents from the same start."""

import warnings
from pathlib import Path

import torch

from benchmarks.acceptance.outcome import Job, NotHere, Outcome
from benchmarks.acceptance.parts.backends import timed_backends
from benchmarks.latency.contenders import COEFFICIENT_SCALE, MODES, Case, Sampling, make_case
from benchmarks.latency.measure import PARITY_TOLERANCE
from benchmarks.rehearsal import any_layout
from runtime import RealCompo
from runtime.bundle.manifest import read_manifest
from runtime.errors import RealCompoError
from runtime.output import Output

COMPARED = ("text_to_image", "spatial", "handover", "surrogate", "exact")
STEPS = 5


def run(job: Job) -> Outcome:
    if job.device == "cpu" or not torch.cuda.is_available():
        raise NotHere("there is no GPU, or it is not to be used: the CPU would be compared with itself")
    return compare(job.bundle, timed_backends(job.bundle, job.device), job.device, job.pictures)


def compare(bundle: Path, backends: list[str], device: str, pictures: Path) -> Outcome:
    """Relative errors of final latents, of each mode on each backend."""
    manifest = read_manifest(bundle)
    case, limit = make_case(manifest.latent_shape, Sampling(STEPS, 7.5)), PARITY_TOLERANCE[manifest.precision]
    wanted = _open_on_cpu(bundle)
    errors = {}
    for mode in COMPARED:
        print(f"drawing with {mode}")
        drawn = {"cpu": _draw(wanted, mode, case)}
        for backend in backends:
            drawn[backend] = _draw(RealCompo.load(bundle, backend, device), mode, case)
            errors[f"{mode}, {backend}"] = _error(drawn[backend], drawn["cpu"])
        for name, output in drawn.items():
            output.images[0].save(pictures / f"{mode}_{name}.png")
    worst = max(errors, key=lambda name: errors[name])
    passed = all(error <= limit for error in errors.values())  # NaN fails
    words = f"{len(errors)} pictures; the farthest: {worst}, {errors[worst]:.1e}; at most {limit:.0e}"
    return Outcome("passed" if passed else "failed", words, {"errors": errors, "limit": limit})


def _open_on_cpu(bundle: Path) -> RealCompo:
    try:
        return RealCompo.load(bundle, "onnx", "cpu", modes=COMPARED)
    except RealCompoError as error:  # bf16
        raise NotHere(f"there is nothing to compare with: {error}") from error


def _draw(pipe: RealCompo, mode: str, case: Case) -> Output:
    with warnings.catch_warnings(action="ignore"):  # of words, for no picture is judged
        return pipe(
            "a picture",
            layout=any_layout(regions=2),
            steps=case.sampling.steps,
            latents=case.latents,
            coefficients=case.coefficients,
            coefficient_scale=COEFFICIENT_SCALE,
            **MODES[mode].options,
        )


def _error(found: Output, wanted: Output) -> float:
    ours, theirs = found.latents.cpu(), wanted.latents.cpu()
    return float((ours - theirs).norm() / theirs.norm())
