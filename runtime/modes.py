"""Modes: ways of combining the models, and which of a bundle's engines each takes."""

from collections.abc import Iterable, Sequence

from runtime.denoising.models import GRADIENT_ROLES, PREDICTION_ROLES
from runtime.errors import RealCompoError
from runtime.options import GRADIENTS, Options, Work
from runtime.spatial.kind import SpatialKind
from runtime.words import ROLES, Role

MODES = tuple(name.partition(":")[0] for name in GRADIENTS)  # `fixed` is that of every constant weight
ALWAYS: tuple[Role, ...] = ("text_encoder", "vae_decoder")


def mode_of(gradient: str) -> str:
    """Of a call's `gradient`."""
    return gradient.partition(":")[0]


def gradient_of(mode: str) -> str:
    """A call's `gradient` of that mode; of `fixed`, half of each model."""
    return "fixed:0.5" if mode == "fixed" else mode


def check_modes(modes: Sequence[str]) -> None:
    """Raises: RealCompoError: there is none, or one that is unknown."""
    if not modes:
        raise RealCompoError(f"modes is empty; name one or more of {', '.join(MODES)}, or leave it out for all")
    if unknown := [mode for mode in modes if mode not in MODES]:
        raise RealCompoError(f"mode {unknown[0]!r} is unknown; use {', '.join(MODES)}")


def engines_of_modes(modes: Iterable[str], kind: SpatialKind, shared_unet: bool) -> tuple[Role, ...]:
    """The engines that the modes take, whatever else a call says."""
    needed = {role for mode in modes for role in _engines_of_mode(mode, kind, shared_unet)}
    return tuple(role for role in ROLES if role in needed)


def engines_of_run(works: Iterable[Work], placed: bool, kind: SpatialKind, shared_unet: bool) -> tuple[Role, ...]:
    """The engines that a run calls.

    Args:
        placed: whether it has a layout, which the spatial model's own engines are shown.
    """
    needed: set[Role] = {*ALWAYS, *(kind.roles if placed else ())}
    for work in works:
        needed |= {PREDICTION_ROLES["spatial" if shared_unet else model] for model in work.asked}
        needed |= {GRADIENT_ROLES["spatial" if shared_unet else model] for model in work.gradient_from}
    return tuple(role for role in ROLES if role in needed)


def _engines_of_mode(mode: str, kind: SpatialKind, shared_unet: bool) -> tuple[Role, ...]:
    options = Options(gradient=gradient_of(mode))
    return engines_of_run(options.kinds_of_work(), options.needs_layout, kind, shared_unet)
