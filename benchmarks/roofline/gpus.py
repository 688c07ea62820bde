"""What GPUs can do at most, from their datasheets; what this machine's CPU can, measured."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from runtime.errors import RealCompoError

ELEMENT_BYTES = {"fp32": 4, "tf32": 4, "fp16": 2, "8-bit": 1}  # bf16 is as fast as fp16 but for the note at 4090
MATRIX_SIZE = 1280  # the deeper layers of Stable Diffusion's UNet are about this wide
COPIED_BYTES = 2**28  # larger than any cache
REPEATS = 10
CPU = "cpu"  # stands for this machine's
HERE = "here"  # stands for this machine's GPU, or for its CPU where it has none
SLOWER_BUILDS = {"pcie", "nvl", "laptop", "d"}  # of a GPU of the table, in the names of drivers


@dataclass(frozen=True)
class Ceilings:
    """The most that a device does.

    Args:
        name: as `--gpu` takes it.
        tflops: 10^12 operations a second of matrix products without sparsity, a multiply-add being two.
        bandwidth: of the device's memory, in GB (10^9 bytes) a second.
        memory: in GB.
    """

    name: str
    tflops: dict[str, float]
    bandwidth: float
    memory: float


# Dense rates: datasheets that print those with 2:4 sparsity are halved. "8-bit" is int8, and fp8 where the GPU has it.
GPUS = {
    row.name: row
    for row in (
        # NVIDIA A100 datasheet (SXM4, 80 GB); no fp8
        Ceilings("a100", {"fp32": 19.5, "tf32": 156, "fp16": 312, "8-bit": 624}, 2039, 80),
        # NVIDIA H100 datasheet (SXM5) and Hopper architecture white paper
        Ceilings("h100", {"fp32": 66.9, "tf32": 494.7, "fp16": 989.4, "8-bit": 1978.9}, 3350, 80),
        # NVIDIA H200 datasheet (SXM): the H100's chip with other memory
        Ceilings("h200", {"fp32": 66.9, "tf32": 494.7, "fp16": 989.4, "8-bit": 1978.9}, 4800, 141),
        # NVIDIA L4 datasheet
        Ceilings("l4", {"fp32": 30.3, "tf32": 60, "fp16": 121, "8-bit": 242.5}, 300, 24),
        # NVIDIA L40S datasheet
        Ceilings("l40s", {"fp32": 91.6, "tf32": 183, "fp16": 362, "8-bit": 733}, 864, 48),
        # NVIDIA Ada GPU architecture white paper; fp16 that accumulates in fp16 (in fp32, and bf16, half), int8 (fp8
        # that accumulates in fp32: half)
        Ceilings("4090", {"fp32": 82.6, "tf32": 82.6, "fp16": 330.3, "8-bit": 660.6}, 1008, 24),
    )
}


def find_ceilings(name: str) -> Ceilings:
    """The row called `name`; this machine's CPU, measured now, for `cpu`; this machine's GPU, or its CPU, for `here`.

    Raises:
        RealCompoError: an unknown name, or a GPU that has no row.
    """
    if name == HERE and torch.cuda.is_available():
        return ceilings_of(torch.cuda.get_device_name())
    if name in (CPU, HERE):
        return measure_cpu()
    if name not in GPUS:
        raise RealCompoError(f"--gpu {name} is unknown; known: {', '.join(GPUS)}, cpu, which is measured, and here")
    return GPUS[name]


def ceilings_of(device: str) -> Ceilings:
    """The row of a GPU by the name that its driver gives, such as `NVIDIA H100 80GB HBM3`.

    Raises:
        RealCompoError: there is none.
    """
    words = device.lower().replace("-", " ").split()
    for name, ceilings in GPUS.items():
        if name in words and not SLOWER_BUILDS.intersection(words):
            return ceilings
    raise RealCompoError(f"no ceilings of {device} are known; name a GPU like it with --gpu: {', '.join(GPUS)}")


def measure_cpu() -> Ceilings:
    """The best rates of several tries: an fp32 matrix product, and a copy from memory to memory."""
    a, b = torch.rand(MATRIX_SIZE, MATRIX_SIZE), torch.rand(MATRIX_SIZE, MATRIX_SIZE)
    source = torch.zeros(COPIED_BYTES, dtype=torch.uint8)
    target = torch.empty_like(source)
    product, copied = 2 * MATRIX_SIZE**3, 2 * COPIED_BYTES  # a copy reads and writes
    tflops = product / best_seconds(lambda: a @ b) / 1e12
    bandwidth = copied / best_seconds(lambda: target.copy_(source)) / 1e9
    return Ceilings(CPU, {"fp32": tflops}, bandwidth, _memory())


def best_seconds(work: Callable[[], object]) -> float:
    """The shortest of several runs, after one that is not counted."""
    work()
    return min(_seconds(work) for _ in range(REPEATS))


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _memory() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
