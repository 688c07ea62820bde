"""`python -m benchmarks roofline`, with the engines timed on this machine's device."""

import torch

from benchmarks.acceptance.outcome import Job, NotHere, Outcome
from benchmarks.acceptance.parts.commands import run_command
from benchmarks.acceptance.parts.gpus import on_first_gpu
from benchmarks.roofline.gpus import CPU, HERE, ceilings_of
from runtime.bundle.manifest import read_manifest
from runtime.errors import RealCompoError


def run(job: Job) -> Outcome:
    on_gpu = on_first_gpu(job)
    if why := _why_not_gpu() if on_gpu else _why_not_cpu(job):
        raise NotHere(why)
    result = run_command("roofline", str(job.bundle), "--gpu", HERE if on_gpu else CPU, "--steps", str(job.steps))
    shares = [f"{row['role']} {row['share']:.0%}" for row in result["measured"]]
    return Outcome("passed", f"of the ceiling: {', '.join(shares)}", result=dict(result))


def _why_not_cpu(job: Job) -> str | None:
    precision = read_manifest(job.bundle).precision
    return None if precision == "fp32" else f"a CPU's ceilings are for fp32, and the bundle is {precision}"


def _why_not_gpu() -> str | None:
    try:
        ceilings_of(torch.cuda.get_device_name())
    except RealCompoError as error:
        return str(error)
    return None
