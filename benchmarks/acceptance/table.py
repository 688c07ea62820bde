"""The parts of an acceptance, in the order in which they run: what would be missed most comes first."""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from benchmarks.acceptance.outcome import Job, Outcome
from runtime.backends import BACKENDS


@dataclass(frozen=True)
class Part:
    """A module, which is imported in the process that runs it.

    Args:
        name: as `--only` takes it.
        module: whose `run` it is, by its full name.
        about: what it does.
        seconds: after which it is ended, of `MINUTES`; more minutes, or fewer parts, give each as much more.
        options: of `run`.
    """

    name: str
    module: str
    about: str
    seconds: float
    options: dict[str, Any] = field(default_factory=dict)

    def run(self, job: Job) -> Outcome:
        """In this process.

        Raises:
            NotHere: it cannot run here.
            RealCompoError: it has failed.
        """
        run: Callable[..., Outcome] = import_module(self.module).run
        return run(job, **self.options)


FOLDER = "benchmarks.acceptance.parts"
MINUTES = 8.0  # for all parts together
CHECK_SECONDS = {"onnx-tensorrt": 120}  # which builds its engines first

PARTS = {
    part.name: part
    for part in (
        *(
            Part(
                f"check {backend}",
                f"{FOLDER}.check",
                f"every engine on {backend} against its golden values",
                CHECK_SECONDS.get(backend, 90),
                {"backend": backend},
            )
            for backend in BACKENDS
            if backend != "auto"
        ),
        Part("pictures", f"{FOLDER}.pictures", "every mode on the GPU against the CPU, from the same start", 90),
        Part("latency", f"{FOLDER}.latency", "all modes beside the stock pipelines and eager PyTorch", 240),
        Part("roofline", f"{FOLDER}.roofline", "every engine's share of what the device can do", 90),
        Part("memory", f"{FOLDER}.memory", "what a process holds, by mode", 90),
        Part("speed", f"{FOLDER}.speed", "images a second by batch, cold load, first image", 180),
        Part("gpu tests", f"{FOLDER}.gpu_tests", "the tests that are marked gpu", 120),
    )
}
