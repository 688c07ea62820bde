"""Files of weights in a diffusers folder: which there are, and whether they hold what a config tells of."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import diffusers
import transformers

from export.checkpoints.variants import Variant
from runtime.errors import RealCompoError

PICKLED_NAMES = {"model": "pytorch_model"}  # of weights, where pickles are called otherwise
# What a text encoder's file may hold besides: the rest of CLIP, and constants
_NOT_OURS = ("vision_model.", "visual_projection.", "text_projection.", "logit_scale", "position_ids")


class Folder(Protocol):
    """Such as a `Checkpoint`."""

    @property
    def folder(self) -> Path: ...

    def read_json(self, path: str) -> dict[str, Any]: ...

    def existing(self, path: str) -> Path: ...


def stored_files(place: Folder, stem: Path, suffix: str, order: Sequence[Variant]) -> tuple[Variant, list[Path]] | None:
    """The first of the variants that there is, and its files, which begin with `stem` and end with `suffix`.

    Raises:
        RealCompoError: an index is damaged, or a file that it names is missing.
    """
    for variant in order:
        infix = f".{variant}" if variant else ""
        if (whole := place.folder / f"{stem}{infix}.{suffix}").is_file():
            return variant, [whole]
        if (place.folder / (index := f"{stem}.{suffix}.index{infix}.json")).is_file():
            return variant, [place.existing(str(stem.with_name(shard))) for shard in _shards(place, index)]
    return None


def _shards(place: Folder, index: str) -> list[str]:
    named = place.read_json(index).get("weight_map")
    shards = set(named.values()) if isinstance(named, dict) else set()
    if not shards or not all(isinstance(shard, str) and Path(shard).name == shard for shard in shards):
        raise RealCompoError(f"{place.folder / index} is damaged: it names no files. Download it again")
    return sorted(shards)


def check_names(place: Path, missing: Collection[str], unknown: Collection[str]) -> None:
    """Raise RealCompoError if a component's files lack weights of its architecture, or hold others: either its config
    does not tell what it is, or a part of it would be lost."""
    unknown = [name for name in unknown if not any(part in name for part in _NOT_OURS)]
    for names, what in (
        (missing, f"lacks {len(missing)} weights of its architecture"),
        (unknown, f"has {len(unknown)} weights that its config does not tell of"),
    ):
        if names:
            raise RealCompoError(
                f"{place} {what}, among them {min(names)[:80]}. Download it again, with the config that belongs to it"
            )


@contextmanager
def silence() -> Iterator[None]:
    """diffusers and transformers warn of what `check_names` says in one line."""
    loggers = [library.utils.logging for library in (diffusers, transformers)]
    before = [logger.get_verbosity() for logger in loggers]
    for logger in loggers:
        logger.set_verbosity_error()
    try:
        yield
    finally:
        for logger, verbosity in zip(loggers, before, strict=True):
            logger.set_verbosity(verbosity)
