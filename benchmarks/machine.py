"""On what a measurement was made: without it a figure says nothing."""

import os
import platform
import shutil
import subprocess
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]  # not export's: that would load diffusers
PACKAGES = (
    "torch",
    "numpy",
    "diffusers",
    "transformers",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt",
    "tensorrt-rtx-cu12",
)


@dataclass(frozen=True)
class Machine:
    cpu: str
    cores: int  # that this process may use
    memory_gib: float
    gpus: tuple[str, ...]
    system: str
    python: str
    threads: int  # of torch and ONNX Runtime, for one operator
    load: float  # runnable processes over the last minute, before the measurement: near 0 on a quiet machine
    commit: str  # of this project; "-dirty" with changes on top
    packages: dict[str, str]


def describe() -> dict[str, object]:
    """This machine, and what is installed, as JSON takes it."""
    return asdict(
        Machine(
            cpu=_cpu_name(),
            cores=len(os.sched_getaffinity(0)),
            memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            gpus=tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())),
            system=f"{platform.system()} {platform.release()}",
            python=platform.python_version(),
            threads=torch.get_num_threads(),
            load=round(os.getloadavg()[0], 2),
            commit=_commit(),
            packages=_installed(),
        )
    )


def in_one_line(machine: dict[str, object]) -> str:
    """What stands under a table."""
    gpus = machine["gpus"] or ["no GPU"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())  # type: ignore[attr-defined]
    return (
        f"{machine['cpu']}, {machine['threads']} of {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"{', '.join(gpus)}; load before {machine['load']}; {machine['system']}, Python {machine['python']}, "  # type: ignore[arg-type]
        f"{versions}; commit {machine['commit']}"
    )


def _cpu_name() -> str:
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return names[0].split(":", 1)[1].strip() if names else platform.machine()  # ARM kernels give no name


def _commit() -> str:
    git = shutil.which("git")
    if not git:
        return "unknown"
    found = subprocess.run([git, "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return found.stdout.strip() or "unknown"  # an installed copy is no repository


def _installed() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
