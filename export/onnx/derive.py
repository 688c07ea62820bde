"""What bundles that are made of another bundle have in common."""

import shutil
from pathlib import Path

from export.publish import publish, write_tokenizers
from runtime.bundle.manifest import EngineSpec, Manifest, ModelSpec, PairSpec, engine_files
from runtime.errors import RealCompoError
from runtime.words import Role


def check_apart(bundle: Path, out: Path) -> None:
    """Raise RealCompoError if a bundle would be written over itself."""
    if out.resolve() == bundle.resolve():
        raise RealCompoError(f"--out {out} is the bundle itself: choose another folder")


def copy_engine(bundle: Path, engine: EngineSpec, scratch: Path) -> EngineSpec:
    """The engine, its files in the scratch folder."""
    for file in engine_files(engine):
        shutil.copyfile(bundle / file.name, scratch / file.name)
    return engine


def publish_derived(
    bundle: Path, changed: Manifest, engines: dict[Role, EngineSpec], scratch: Path, out: Path
) -> Manifest:
    """Publish the manifest of `bundle`, of which something is changed, with engines in the scratch folder."""
    contents = [(bundle / file.name).read_bytes() for file in changed.tokenizers]
    tokenizers = write_tokenizers(contents, scratch, out)
    derived = changed.model_copy(update={"engines": engines, "pair": _anchored(changed.pair, bundle), **tokenizers})
    publish(derived, scratch, out)
    return derived


def _anchored(pair: PairSpec, bundle: Path) -> PairSpec:
    """The pair, what was prepared in the folder of `bundle` by its whole path."""

    def whole(model: ModelSpec) -> ModelSpec:
        return model.model_copy(
            update={"prepared": str(Path(model.place(bundle)).resolve()) if model.prepared else None}
        )

    models = {"text_to_image": whole(pair.text_to_image), "spatial": whole(pair.spatial)}
    return pair.model_copy(update={**models, "attached": tuple(map(whole, pair.attached))})
