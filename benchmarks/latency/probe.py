"""One contender in a process of its own: cold load, first image, steady images, batches, peak memory.

`run` starts `python -m benchmarks.latency.probe JOB`, where JOB is JSON, as is the last line that it prints.
"""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic

import torch
from pydantic import TypeAdapter

from benchmarks.latency.contenders import (
    Case,
    Contender,
    Drawer,
    Rows,
    Sampling,
    Target,
    choose,
    contenders,
    for_parity,
    make_case,
)
from benchmarks.latency.timing import Sample, take
from benchmarks.machine import ROOT
from runtime.bundle.manifest import read_manifest
from runtime.errors import RealCompoError


@dataclass(frozen=True)
class Job:
    contender: str
    target: Target
    sampling: Sampling
    images: int  # steady ones, after the first
    batches: tuple[int, ...]
    asked: float  # time.monotonic(), which all processes share, when the process was started


@dataclass(frozen=True)
class Finding:
    cold_load: float  # seconds from the start of the process until the first image can be asked for
    first_image: float  # seconds
    steady: list[Sample]
    images_per_second: dict[int, float]  # by batch size; one batch of each size is warm-up
    peak_rss: int  # bytes, after all single images
    gpu_memory: int  # bytes that the device had given away by then
    rows: Rows | None
    latents: list[float]  # of the first image, or of the shorter run that parity is asked of, flat


def run(contender: Contender, target: Target, sampling: Sampling, images: int, batches: tuple[int, ...]) -> Finding:
    """Measure a contender in a new process.

    Raises:
        RealCompoError: the process failed; its last words are in the message.
    """
    job = Job(contender.name, target, sampling, images, batches if contender.batched else (), monotonic())
    command = [sys.executable, "-m", "benchmarks.latency.probe", json.dumps(asdict(job))]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]
        raise RealCompoError(f"{contender.name} could not be measured in a process of its own: {last}")
    return TypeAdapter(Finding).validate_python(json.loads(ended.stdout.splitlines()[-1]))


def measure(job: Job) -> Finding:
    """What the new process does."""
    torch.set_num_threads(job.target.threads)
    free = _free_gpu_memory(job.target)
    (contender,) = choose(contenders(job.target, compiled=True), [job.contender])
    drawer = contender.load(job.target)
    loaded = monotonic() - job.asked
    manifest = read_manifest(Path(job.target.bundle))
    shape, compared = manifest.latent_shape, for_parity(job.sampling, manifest.precision)
    case = make_case(shape, job.sampling)
    first, drawn = take(drawer, case)
    steady = [take(drawer, case)[0] for _ in range(job.images)]
    return Finding(
        cold_load=loaded,
        first_image=first.seconds,
        steady=steady,
        peak_rss=_peak_rss(),
        gpu_memory=free - _free_gpu_memory(job.target),
        images_per_second={n: _images_per_second(drawer, make_case(shape, job.sampling, n)) for n in job.batches},
        rows=drawn.rows,
        latents=(drawn if compared == job.sampling else drawer(make_case(shape, compared))).latents.flatten().tolist(),
    )


def _images_per_second(drawer: Drawer, batch: Case) -> float:
    take(drawer, batch)  # allocates for its size
    return batch.count / take(drawer, batch)[0].seconds


def _peak_rss() -> int:
    """Not getrusage's, which a process inherits from the one that started it."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def _free_gpu_memory(target: Target) -> int:
    """As the driver counts, for engines do not allocate through torch."""
    return torch.cuda.mem_get_info(target.device)[0] if target.device.startswith("cuda") else 0


if __name__ == "__main__":
    print(json.dumps(asdict(measure(TypeAdapter(Job).validate_json(sys.argv[1])))))
