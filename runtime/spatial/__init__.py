"""Kinds of spatial model: one file and one row of `KINDS` each."""

from runtime.bundle.manifest import Manifest
from runtime.errors import RealCompoError
from runtime.knobs import Knob, knobs_of
from runtime.spatial.controlnet import CONTROLNET
from runtime.spatial.gligen import GLIGEN
from runtime.spatial.kind import SpatialKind
from runtime.spatial.t2i_adapter import T2I_ADAPTER
from runtime.words import Role

KINDS: dict[str, SpatialKind] = {kind.name: kind for kind in (GLIGEN, CONTROLNET, T2I_ADAPTER)}


def kind_of(manifest: Manifest) -> SpatialKind:
    """Raises: RealCompoError: a kind that this runtime does not know."""
    name = manifest.spatial.kind
    if name not in KINDS:
        raise RealCompoError(f"the bundle's spatial model is of kind {name!r}; this runtime knows {', '.join(KINDS)}")
    return KINDS[name]


def needed_roles(kind: SpatialKind, shared_unet: bool) -> tuple[Role, ...]:
    """The engines of a bundle. Where both models have one UNet, the spatial one's engines do the other's work."""
    base: tuple[Role, ...] = () if shared_unet else ("text_to_image", "text_to_image_gradient")
    return ("text_encoder", *base, "spatial", "spatial_gradient", *kind.roles, "vae_decoder")


def strength_knobs() -> dict[str, Knob]:
    """The strengths of every kind."""
    return {name: knob for kind in KINDS.values() for name, knob in knobs_of(kind.strengths).items()}
