"""The hashes of a pair's weights."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from export.checkpoints.folders import Checkpoint, Checkpoints
from export.graphs.engine import Source
from export.words import Component
from runtime.words import Model


@dataclass(frozen=True)
class Digests:
    """The hash of every component that the parts are made from."""

    components: dict[tuple[Model, Component], str]
    attached: tuple[str, ...]

    def of(self, model: Model) -> str:
        """One hash for all that a model gives by itself."""
        return _joined(digest for (owner, _), digest in self.components.items() if owner == model)

    def of_sources(self, sources: Iterable[Source]) -> str:
        """One hash for all that a role is made from."""
        return _joined(digest for source in sources for digest in self._of_source(source))

    def _of_source(self, source: Source) -> Sequence[str]:
        if _is_attached(source):
            return self.attached
        digest = self.components.get((source.model, source.component))
        return [digest] if digest else []


def weight_digests(checkpoints: Checkpoints) -> Digests:
    """Read every weight file once and hash it."""
    base, spatial = checkpoints.text_to_image, checkpoints.spatial
    components: dict[tuple[Model, Component], str] = {
        ("text_to_image", component): base.digest(component) for component in base.components
    }
    components["spatial", "unet"] = components["text_to_image", "unet"] if spatial is base else spatial.digest("unet")
    return Digests(components, tuple(one.digest(checkpoints.attached_as) for one in checkpoints.attached))


def source_checkpoints(source: Source, checkpoints: Checkpoints) -> tuple[Checkpoint, ...]:
    """Those that have the component: one, every attached one, or none."""
    if _is_attached(source):
        return checkpoints.attached
    checkpoint = checkpoints.of(source.model)
    has = source.component == "unet" or source.component in checkpoints.text_to_image.components
    return (checkpoint,) if has else ()


def _is_attached(source: Source) -> bool:
    return source.component in ("controlnet", "adapter")


def _joined(digests: Iterable[str]) -> str:
    return hashlib.sha256("".join(digests).encode()).hexdigest()
