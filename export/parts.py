"""The parts of a bundle: for each engine what it is made from, and the key that tells whether it must be made again."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from export.checkpoints.digests import Digests, source_checkpoints
from export.checkpoints.folders import Checkpoints
from export.graphs.engine import Engine, Signature
from export.graphs.geometry import Geometry
from export.onnx.to_onnx import OPSETS
from export.plans.plan_options import PlanOptions
from runtime.words import Precision, Role

HASH = "sha256:"  # begins what is the hash of something longer
_HASH_DIGITS = 24
_PACKAGES = ("torch", "diffusers", "transformers", "onnx-ir", "onnxscript")
_ROOT = Path(__file__).resolve().parents[1]
# The code that shapes a graph, and the code that makes a plan of it
_SOURCES = (
    *("export/graphs", "export/families", "export/spatial", "export/engines.py", "export/external_data.py"),
    *("export/onnx/to_onnx.py", "export/onnx/fuse.py", "export/onnx/precision.py", "runtime/denoising/balancer.py"),
    *("runtime/words.py", "runtime/bundle/golden.py"),
)
_PLAN_SOURCES = ("export/plans",)


@dataclass(frozen=True)
class Part:
    """One engine to be."""

    engine: Engine
    depends: dict[str, str]  # all that the part is made from, by name: values, or hashes of what is long
    signature: Signature
    weight_bytes: int  # in fp32

    @property
    def role(self) -> Role:
        return self.engine.role

    @property
    def key(self) -> str:
        return hashlib.sha256(json.dumps({"role": self.role, **self.depends}, sort_keys=True).encode()).hexdigest()

    @property
    def sidecar(self) -> str:
        """The file that says what became of the part, once it is finished."""
        return f"{self.role}-{self.key[:12]}.json"

    @property
    def any_sidecar(self) -> str:
        """A glob pattern for the part's sidecars, whatever its key."""
        return f"{self.role}-{'[0-9a-f]' * 12}.json"


def plan_parts(
    engines: Iterable[Engine],
    checkpoints: Checkpoints,
    digests: Digests,
    geometry: Geometry,
    precision: Precision,
    plan: PlanOptions | None,
) -> list[Part]:
    """The parts of the pair's bundle, in the order in which they are built."""
    shared = {
        "precision": precision,
        "opset": str(OPSETS[precision]),
        **{name: version(name) for name in _PACKAGES},
        "exporter": _code_digest(_SOURCES),
        **{_words(name): _short(value) for name, value in asdict(geometry).items()},
    }
    return [_part(engine, checkpoints, digests, geometry, shared, plan) for engine in engines]


def _part(
    engine: Engine,
    checkpoints: Checkpoints,
    digests: Digests,
    geometry: Geometry,
    shared: dict[str, str],
    plan: PlanOptions | None,
) -> Part:
    weights = {"weights": HASH + digests.of_sources(engine.sources)[:_HASH_DIGITS]}
    depends = weights | shared | (_plan_depends(engine, plan) if plan else {"backend": "onnx"})
    size = sum(
        checkpoint.fp32_bytes(source.component, source.prefixes)
        for source in engine.sources
        for checkpoint in source_checkpoints(source, checkpoints)
    )
    return Part(engine, depends, engine.signature(geometry), size)


def _plan_depends(engine: Engine, plan: PlanOptions) -> dict[str, str]:
    return {
        "backend": f"{plan.flavour} {plan.version}",
        "polygraphy": version("polygraphy"),
        "builder": _code_digest(_PLAN_SOURCES),
        "compute capabilities": " ".join(plan.compute_capabilities),
        "GPU": str(plan.gpu),
        "batch": ":".join(map(str, engine.rows(plan.batch))),
        "flags": " ".join(f"{name}={value}" for name, value in plan.builder.flags().items()),
    }


def _words(name: str) -> str:
    return name.replace("_", " ")


def _short(value: object) -> str:
    """A value as text, or its hash where that is shorter."""
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= _HASH_DIGITS + len(HASH) else _digest(text.encode())


def _code_digest(places: Iterable[str]) -> str:
    """Of folders and files of this repository."""
    files = (file for place in places for file in sorted([_ROOT / place, *(_ROOT / place).rglob("*.py")]))
    return _digest(b"".join(file.read_bytes() for file in files if file.is_file()))


def _digest(content: bytes) -> str:
    return HASH + hashlib.sha256(content).hexdigest()[:_HASH_DIGITS]
