"""What a bundle's engines are for, told from their tensors."""

from runtime.bundle.manifest import EngineSpec, Manifest, Role


def works_every_step(spec: EngineSpec) -> bool:
    """Those of steps are told the timestep; the others work once an image."""
    return "timestep" in {given.name for given in spec.inputs}


def predictors(manifest: Manifest) -> list[Role]:
    """The UNets' engines that go forward alone."""
    return _makers(manifest, "noise_pred")


def differentiators(manifest: Manifest) -> list[Role]:
    """The UNets' engines that go forward and backward."""
    return _makers(manifest, "grad_latents")


def _makers(manifest: Manifest, output: str) -> list[Role]:
    return [role for role, spec in manifest.engines.items() if output in {made.name for made in spec.outputs}]
