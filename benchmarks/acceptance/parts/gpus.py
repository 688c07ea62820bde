"""Whether a part works on the GPU: of what takes no other than the first."""

import torch

from benchmarks.acceptance.outcome import Job, NotHere
from runtime.backends.devices import parse_device


def on_first_gpu(job: Job) -> bool:
    """Whether there is one, and it is to be used.

    Raises:
        NotHere: another one is.
    """
    if job.device == "cpu" or not torch.cuda.is_available():
        return False
    if number := parse_device(job.device, "cuda").index:
        raise NotHere(f"it takes the first GPU alone; set CUDA_VISIBLE_DEVICES={number} and give --device cuda")
    return True
