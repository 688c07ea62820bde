"""Which device a bundle runs on, and what TensorRT's runner needs to know of a GPU."""

from contextlib import AbstractContextManager
from typing import Protocol

import torch

from runtime.errors import RealCompoError


def parse_device(name: str, default: str) -> torch.device:
    """The device for `auto` (then the default), `cpu`, `cuda` or `cuda:N`.

    Raises:
        RealCompoError: an unknown name, or the number of a GPU that is not there.
    """
    kind, _, index = (default if name == "auto" else name).partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdecimal()):
        raise RealCompoError(f"device={name!r} is unknown; use auto, cpu, cuda or cuda:N")
    if kind == "cpu":
        return torch.device("cpu")
    if int(index or 0) >= torch.cuda.device_count() > 0:
        raise RealCompoError(f"device={name!r}: this machine has {torch.cuda.device_count()} CUDA device(s)")
    return torch.device("cuda", int(index or 0))


def check_device(name: str) -> None:
    """Of what falls back to a CPU where nobody has asked for a GPU.

    Raises:
        RealCompoError: an unknown name, or a GPU that is not there.
    """
    if parse_device(name, "cpu").type == "cuda" and not torch.cuda.is_available():
        raise RealCompoError(f"device={name!r}: torch finds no GPU on this machine; use auto or cpu")


class Driver(Protocol):
    """The few things that TensorRT's runner asks of CUDA."""

    device: torch.device

    def gpu(self) -> str:
        """The GPU's name."""

    def compute_capability(self) -> str:
        """Such as `8.9`."""

    def free_memory(self) -> int:
        """Bytes."""

    def stream(self) -> int:
        """The handle of torch's current stream."""

    def is_capturing(self) -> bool:
        """Whether that stream is recording a CUDA graph."""

    def active(self) -> AbstractContextManager[object]:
        """Makes this device the current one, where engines and contexts are created."""


class CudaDriver:
    """One GPU, through torch."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def gpu(self) -> str:
        return torch.cuda.get_device_name(self.device)

    def compute_capability(self) -> str:
        return ".".join(map(str, torch.cuda.get_device_capability(self.device)))

    def free_memory(self) -> int:
        return torch.cuda.mem_get_info(self.device)[0]

    def stream(self) -> int:
        return torch.cuda.current_stream(self.device).cuda_stream

    def is_capturing(self) -> bool:
        return torch.cuda.is_current_stream_capturing()

    def active(self) -> AbstractContextManager[object]:
        return torch.cuda.device(self.device)
