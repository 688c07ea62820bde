"""What a bundle's engines are for, told from what they give."""

from runtime.bundle.manifest import Manifest
from runtime.words import Role


def predictors(manifest: Manifest) -> list[Role]:
    """The UNets' engines that go forward alone."""
    return _makers(manifest, "noise_pred")


def differentiators(manifest: Manifest) -> list[Role]:
    """The UNets' engines that go forward and backward."""
    return _makers(manifest, "grad_latents")


def _makers(manifest: Manifest, output: str) -> list[Role]:
    return [role for role, spec in manifest.engines.items() if output in {made.name for made in spec.outputs}]
