"""The parts of a bundle: for each engine what it is made from, and the key that tells whether it must be made again."""

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import get_args

from export import attention, decompositions, gradient, graphs, precision, roles, to_onnx
from export.checkpoints import COMPONENTS, MODELS, Checkpoints, Component, Model
from export.geometry import Geometry
from export.roles import Signature, signature
from export.to_engine import FLAGS, PlanOptions
from export.to_onnx import OPSET
from runtime import balancer
from runtime.bundle import Precision, Role

ROLES: tuple[Role, ...] = get_args(Role)
_PACKAGES = ("torch", "diffusers", "transformers", "onnx-ir", "onnxscript")
_SOURCES = (
    attention,
    balancer,
    decompositions,
    gradient,
    graphs,
    precision,
    roles,
    to_onnx,
)  # the modules that shape a graph


@dataclass(frozen=True)
class Source:
    """Where a role's weights are: a model's component, and the beginnings of their names."""

    model: Model
    component: Component
    prefixes: tuple[str, ...] = ("",)


SOURCES: dict[Role, Source] = {
    "text_encoder": Source("text_to_image", "text_encoder"),
    "text_to_image": Source("text_to_image", "unet"),
    "spatial": Source("spatial", "unet"),
    "text_to_image_gradient": Source("text_to_image", "unet"),
    "spatial_gradient": Source("spatial", "unet"),
    "grounding": Source("spatial", "unet", ("position_net.",)),
    "vae_decoder": Source("text_to_image", "vae", ("decoder.", "post_quant_conv.")),
}


@dataclass(frozen=True)
class Part:
    """One engine to be."""

    role: Role
    key: str
    signature: Signature
    weight_bytes: int  # in fp32

    def file(self, suffix: str) -> str:
        return f"{self.role}-{self.key[:12]}.{suffix}"


@dataclass(frozen=True)
class Digests:
    """The hash of every component that the parts are made from."""

    components: dict[tuple[Model, Component], str]

    def of(self, model: Model) -> str:
        """One hash for all that a model gives."""
        own = "".join(self.components[model, component] for component in COMPONENTS[model])
        return hashlib.sha256(own.encode()).hexdigest()


def weight_digests(checkpoints: Checkpoints) -> Digests:
    """Read every weight file once and hash it."""
    return Digests({(model, c): checkpoints.of(model).digest(c) for model in MODELS for c in COMPONENTS[model]})


def plan_parts(
    checkpoints: Checkpoints, digests: Digests, geometry: Geometry, precision: Precision, plan: PlanOptions | None
) -> list[Part]:
    """The parts of the pair's bundle, in the order in which they are built."""
    shared: dict[str, object] = {
        "precision": precision,
        "opset": OPSET,
        "packages": {name: version(name) for name in _PACKAGES},
        "code": _code_digest(),
        "geometry": asdict(geometry),
        "plan": plan and {**asdict(plan), "flags": FLAGS, "polygraphy": version("polygraphy")},
    }
    return [_part(role, checkpoints, digests, geometry, shared) for role in ROLES]


def _part(
    role: Role, checkpoints: Checkpoints, digests: Digests, geometry: Geometry, shared: dict[str, object]
) -> Part:
    source = SOURCES[role]
    depends = {"role": role, "weights": digests.components[source.model, source.component], **shared}
    key = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()
    size = checkpoints.of(source.model).fp32_bytes(source.component, source.prefixes)
    return Part(role, key, signature(role, geometry), size)


def _code_digest() -> str:
    text = b"".join(Path(str(module.__file__)).read_bytes() for module in _SOURCES)
    return hashlib.sha256(text).hexdigest()
