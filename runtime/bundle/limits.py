"""How far an engine may be from PyTorch: when a bundle is built, and wherever it is checked."""

from runtime.bundle.manifest import EngineSpec
from runtime.words import Kernels, Precision

MOST: dict[Precision, float] = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 5e-2}  # with which an engine may be built
# What a check lets pass at the least. Other machines add up in another order, and a CPU computes fp16 in fp32:
# Tabletop's decoder, 1e-6 off there, is 4.1e-3 off on an H100
LEAST: dict[Precision, float] = {"fp16": 8e-3, "bf16": 2e-2}
# In fp32 kernels differ by rounding alone. Of outputs that were measured within 6e-7, ONNX Runtime's on a CPU were off
# by up to 6e-7, PyTorch's for older CPUs by up to 8e-7 and an H100's by up to 7e-7; other GPUs may have other
# algorithms. TensorRT chooses them anew for each GPU, and none has shown what they are off
LEAST_FP32: dict[Kernels, float] = {"cpu": 3e-6, "cuda": 1e-5, "tensorrt": MOST["fp32"]}
LOOSE = 0.5  # of what has passed a backward in half precision: pictures say how exact it has to be, this finds garbage
LOOSELY = ("grad_latents",)
SPREAD = 5  # times the error that was measured when the bundle was built; other kernels in fp32 had up to 2.8 of it


def build_limit(precision: Precision, output: str) -> float:
    """The relative error with which an engine may be built."""
    return LOOSE if precision != "fp32" and output in LOOSELY else MOST[precision]


def check_limit(spec: EngineSpec, output: str, kernels: Kernels) -> float:
    """The relative error that a check lets pass: a few times what it was when the engine was built."""
    least = LEAST_FP32[kernels] if spec.precision == "fp32" else LEAST[spec.precision]
    return min(build_limit(spec.precision, output), max(least, SPREAD * spec.verification.get(output, 0.0)))
