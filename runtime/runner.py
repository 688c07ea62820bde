"""What executes an engine, as all that calls engines knows it. `runtime.backends` has the ones there are."""

from typing import Protocol

import torch

from runtime.bundle.manifest import EngineSpec


class Runner(Protocol):
    """Executes one engine: named tensors in, named tensors out.

    The outputs are the runner's own buffers, valid until its next call: clone what must outlive it.
    """

    spec: EngineSpec

    @property
    def most_rows(self) -> int | None:
        """Rows that one call takes; None: any number."""

    def __call__(self, **tensors: torch.Tensor) -> dict[str, torch.Tensor]: ...
