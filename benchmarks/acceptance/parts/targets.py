"""What the parts that time something beside PyTorch work on."""

import torch

from benchmarks.acceptance.outcome import Job, NotHere
from benchmarks.acceptance.parts.backends import timed_backends
from benchmarks.latency.contenders import Target
from benchmarks.latency.measure import find_target
from runtime.errors import RealCompoError

LARGEST_ON_CPU = 1_500_000_000  # bytes of graphs: two models of that size in PyTorch and as engines fill 24 GB


def find(job: Job) -> Target:
    """The bundle with its checkpoints, on the backends that run here.

    Raises:
        NotHere: none does, the checkpoints are elsewhere, or it is too large.
    """
    device = "cuda:0" if job.device == "auto" and torch.cuda.is_available() else job.device
    backends = timed_backends(job.bundle, device)
    if not backends:
        raise NotHere(f"no backend runs the bundle on {device}; the checks say why")
    try:
        target = find_target(job.bundle, backends, device, torch.get_num_threads())
    except RealCompoError as error:
        raise NotHere(str(error)) from error
    size = sum(file.stat().st_size for file in job.bundle.glob("*.onnx*"))
    if target.device == "cpu" and size > LARGEST_ON_CPU:
        raise NotHere("the models are too large for a CPU in so short a time; run latency with --full-size")
    return target
