"""How far an engine may be from PyTorch: when a bundle is built, and wherever it is checked."""

from runtime.bundle.manifest import EngineSpec
from runtime.words import Precision

# What an engine of a precision may be off: at most when a bundle is built, and at least what a check lets pass. Other
# machines add up in another order, and a CPU computes fp16 in fp32: Tabletop's decoder, 1e-6 off there, is 4.1e-3
# off on an H100
MOST: dict[Precision, float] = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 5e-2}
LEAST: dict[Precision, float] = {"fp32": 1e-4, "fp16": 8e-3, "bf16": 2e-2}
LOOSE = 0.5  # of what has passed a backward in half precision: pictures say how exact it has to be, this finds garbage
LOOSELY = ("grad_latents",)
SPREAD = 5  # times the error that was measured when the bundle was built


def build_limit(precision: Precision, output: str) -> float:
    """The relative error with which an engine may be built."""
    return LOOSE if precision != "fp32" and output in LOOSELY else MOST[precision]


def check_limit(spec: EngineSpec, output: str) -> float:
    """The relative error that a check lets pass: a few times what it was when the engine was built."""
    measured = SPREAD * spec.verification.get(output, 0.0)
    return min(build_limit(spec.precision, output), max(LEAST[spec.precision], measured))
