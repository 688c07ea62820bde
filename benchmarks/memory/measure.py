"""What a process holds that has loaded a bundle for one mode and drawn a picture.

`run` starts `python -m benchmarks.memory.measure JOB`, where JOB is JSON, as is the last line that it prints.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.machine import ROOT
from benchmarks.rehearsal import any_layout
from runtime import RealCompo
from runtime.errors import RealCompoError

PROMPT = "a red ball and a blue cube"


@dataclass(frozen=True)
class Job:
    bundle: str
    mode: str
    backend: str
    device: str
    steps: int


@dataclass(frozen=True)
class Held:
    """Bytes, after the picture but for `before`."""

    engines: tuple[str, ...]  # that are open
    before: int  # resident once everything is imported, and nothing loaded
    resident: int  # each page once, though several graphs map it
    anonymous: int  # of these, what is no mapped file
    files: int  # of these, mapped files such as weights; processes of one bundle share them
    most: int  # resident at any time, pages as often as they are mapped
    gpu: int  # of the device, given away

    @property
    def loaded(self) -> int:
        """What the bundle adds."""
        return self.resident - self.before


def run(job: Job) -> Held:
    """Measure in a new process.

    Raises:
        RealCompoError: the process failed; its last words are in the message.
    """
    command = [sys.executable, "-m", "benchmarks.memory.measure", json.dumps(asdict(job))]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]
        raise RealCompoError(f"mode {job.mode} could not be measured in a process of its own: {last}")
    found = json.loads(ended.stdout.splitlines()[-1])
    return Held(**found | {"engines": tuple(found["engines"])})


def measure(job: Job) -> Held:
    """What the new process does."""
    import onnxruntime  # noqa: F401  # the library's own memory is none of the bundle's

    before, free = _resident()["Pss"], _free()
    pipe = RealCompo.load(job.bundle, job.backend, job.device, modes=(job.mode,))
    gradient = "fixed:0.5" if job.mode == "fixed" else job.mode
    pipe(PROMPT, layout=any_layout(regions=2), steps=job.steps, gradient=gradient)
    held = _resident()
    return Held(
        engines=pipe.open_engines,
        before=before,
        resident=held["Pss"],
        anonymous=held["Anonymous"],
        files=held["Pss"] - held["Anonymous"],
        most=_status()["VmHWM"],
        gpu=free - _free(),
    )


def _resident() -> Mapping[str, int]:
    """`Rss` has a page of a file as often as it is mapped here; `Pss` has it once, or its share of other processes'."""
    return _kilobytes(Path("/proc/self/smaps_rollup"))


def _status() -> Mapping[str, int]:
    return _kilobytes(Path("/proc/self/status"))


def _kilobytes(file: Path) -> Mapping[str, int]:
    """The lines `Name:  N kB`, in bytes."""
    words = (line.split() for line in file.read_text().splitlines())
    return {line[0].rstrip(":"): int(line[1]) * 1024 for line in words if line[-1:] == ["kB"]}


def _free() -> int:
    """Of the GPU, as the driver counts."""
    return torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else 0


if __name__ == "__main__":
    print(json.dumps(asdict(measure(Job(**json.loads(sys.argv[1]))))))
