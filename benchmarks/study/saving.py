"""Store in a bundle what a study found."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from export.staging import scratch_folder
from runtime.bundle.manifest import (
    Manifest,
    RecommendedSpec,
    bundle_files,
    read_manifest,
    write_manifest,
)
from runtime.errors import RealCompoError


def save_recommended(bundle: Path, studied: Manifest, found: Mapping[str, Any], command: str) -> None:
    """Write the recommended mode into the bundle's manifest, in one step, while no build is at work in it.

    Raises:
        RealCompoError: the bundle is being built, or is no longer the one that was studied.
    """
    with scratch_folder(bundle, ["study", str(bundle)]):
        present = read_manifest(bundle)
        if bundle_files(present) != bundle_files(studied):
            raise RealCompoError(f"{bundle} was built again while it was studied; run the study again to save it")
        spec = RecommendedSpec(knobs=found["knobs"], why=found["why"], command=command)
        write_manifest(bundle, present.model_copy(update={"recommended": spec}))
