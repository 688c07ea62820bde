"""The parts of a bundle: for each engine what it is made from, and the key that tells whether it must be made again."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from export.checkpoints.folders import Checkpoint, Checkpoints, Model
from export.checkpoints.supported import Component
from export.graphs import attention, decompositions, gradient, models, roles, spatial
from export.graphs.geometry import Geometry
from export.graphs.roles import Signature, signature
from export.onnx import precision, to_onnx
from export.onnx.to_onnx import OPSETS
from export.plans import plan_options, plan_worker, to_engine
from export.plans.plan_options import PlanOptions, profile_rows
from runtime.bundle.manifest import Precision, Role
from runtime.denoising import balancer

HASH = "sha256:"  # begins what is the hash of something longer
_HASH_DIGITS = 24
_PACKAGES = ("torch", "diffusers", "transformers", "onnx-ir", "onnxscript")
_SOURCES = (
    attention,
    balancer,
    decompositions,
    gradient,
    models,
    precision,
    roles,
    spatial,
    to_onnx,
)  # the modules that shape a graph
_PLAN_SOURCES = (plan_options, plan_worker, to_engine)


@dataclass(frozen=True)
class Source:
    """Where weights of a role are: a component of a model, and the beginnings of their names."""

    model: Model
    component: Component
    prefixes: tuple[str, ...] = ("",)

    def checkpoints(self, pair: Checkpoints) -> tuple[Checkpoint, ...]:
        """Those that have the component: one, every ControlNet, or none."""
        if self.component == "controlnet":
            return pair.controlnets
        checkpoint = pair.of(self.model)
        return (checkpoint,) if self.component in checkpoint.components else ()


CONTROLNETS = Source("spatial", "controlnet")
SOURCES: dict[Role, tuple[Source, ...]] = {
    "text_encoder": (Source("text_to_image", "text_encoder"), Source("text_to_image", "text_encoder_2")),
    "text_to_image": (Source("text_to_image", "unet"),),
    "spatial": (Source("spatial", "unet"),),
    "text_to_image_gradient": (Source("text_to_image", "unet"),),
    "spatial_gradient": (Source("spatial", "unet"), CONTROLNETS),
    "grounding": (Source("spatial", "unet", ("position_net.",)),),
    "controlnet": (CONTROLNETS,),
    "vae_decoder": (Source("text_to_image", "vae", ("decoder.", "post_quant_conv.")),),
}


@dataclass(frozen=True)
class Part:
    """One engine to be."""

    role: Role
    depends: dict[str, str]  # all that the part is made from, by name: values, or hashes of what is long
    signature: Signature
    weight_bytes: int  # in fp32

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


@dataclass(frozen=True)
class Digests:
    """The hash of every component that the parts are made from."""

    components: dict[tuple[Model, Component], str]
    controlnets: tuple[str, ...]

    def of(self, model: Model) -> str:
        """One hash for all that a model gives by itself."""
        return _joined(digest for (owner, _), digest in self.components.items() if owner == model)

    def of_sources(self, sources: Iterable[Source]) -> str:
        """One hash for all that a role is made from."""
        return _joined(digest for source in sources for digest in self._of_source(source))

    def _of_source(self, source: Source) -> Sequence[str]:
        if source.component == "controlnet":
            return self.controlnets
        digest = self.components.get((source.model, source.component))
        return [digest] if digest else []


def weight_digests(checkpoints: Checkpoints) -> Digests:
    """Read every weight file once and hash it."""
    components: dict[tuple[Model, Component], str] = {
        ("text_to_image", component): checkpoints.text_to_image.digest(component)
        for component in checkpoints.text_to_image.components
    }
    own = not checkpoints.controlnets  # with ControlNets, the spatial UNet is that of text_to_image
    components["spatial", "unet"] = checkpoints.spatial.digest("unet") if own else components["text_to_image", "unet"]
    return Digests(components, tuple(controlnet.digest("controlnet") for controlnet in checkpoints.controlnets))


def _joined(digests: Iterable[str]) -> str:
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def plan_parts(
    roles: Sequence[Role],
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
    return [_part(role, checkpoints, digests, geometry, shared, plan) for role in roles]


def _part(
    role: Role,
    checkpoints: Checkpoints,
    digests: Digests,
    geometry: Geometry,
    shared: dict[str, str],
    plan: PlanOptions | None,
) -> Part:
    sources = SOURCES[role]
    weights = {"weights": HASH + digests.of_sources(sources)[:_HASH_DIGITS]}
    depends = weights | shared | (_plan_depends(role, plan) if plan else {"backend": "onnx"})
    size = sum(
        checkpoint.fp32_bytes(source.component, source.prefixes)
        for source in sources
        for checkpoint in source.checkpoints(checkpoints)
    )
    return Part(role, depends, signature(role, geometry), size)


def _plan_depends(role: Role, plan: PlanOptions) -> dict[str, str]:
    return {
        "backend": f"{plan.flavour} {plan.version}",
        "polygraphy": version("polygraphy"),
        "builder": _code_digest(_PLAN_SOURCES),
        "compute capabilities": " ".join(plan.compute_capabilities),
        "GPU": str(plan.gpu),
        "batch": ":".join(map(str, profile_rows(role, plan.batch))),
        "flags": " ".join(f"{name}={value}" for name, value in plan.builder.flags().items()),
    }


def _words(name: str) -> str:
    return name.replace("_", " ")


def _short(value: object) -> str:
    """A value as text, or its hash where that is shorter."""
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= _HASH_DIGITS + len(HASH) else _digest(text.encode())


def _code_digest(modules: Iterable[ModuleType]) -> str:
    return _digest(b"".join(Path(str(module.__file__)).read_bytes() for module in modules))


def _digest(content: bytes) -> str:
    return HASH + hashlib.sha256(content).hexdigest()[:_HASH_DIGITS]
